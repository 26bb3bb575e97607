//! The page: its files are in the program.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use super::app::Shared;

/// Address, media type and content of each file.
const FILES: [(&str, &str, &str); 7] = [
    ("/", HTML, include_str!("../ui/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("../ui/page.css")),
    ("/page.js", SCRIPT, include_str!("../ui/page.js")),
    ("/pictures.js", SCRIPT, include_str!("../ui/pictures.js")),
    ("/server.js", SCRIPT, include_str!("../ui/server.js")),
    ("/store.js", SCRIPT, include_str!("../ui/store.js")),
    ("/tree.js", SCRIPT, include_str!("../ui/tree.js")),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) fn router() -> Router<Shared> {
    FILES.into_iter().fold(Router::new(), |router, (address, kind, content)| {
        router.route(address, get(move || async move { ([(CONTENT_TYPE, kind)], content) }))
    })
}

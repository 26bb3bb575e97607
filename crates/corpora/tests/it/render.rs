//! Drawings.

use image::GenericImageView as _;
use mm1_corpora::render;

const SQUARE: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10">
    <defs><linearGradient id="a"><stop stop-color="#f00"/><stop offset="1" stop-color="#00f"/></linearGradient></defs>
    <rect x="5" width="10" height="10" fill="url(#a)"/></svg>"##;

#[test]
fn a_drawing_has_its_size_and_ground_and_the_same_bytes_each_time() {
    let bytes = render(SQUARE, 64).unwrap();
    assert_eq!(bytes, render(SQUARE, 64).unwrap());
    let picture = image::load_from_memory(&bytes).unwrap();
    assert_eq!(picture.dimensions(), (64, 32));
    let picture = picture.to_rgba8();
    assert_eq!(picture.get_pixel(4, 16)[3], 0, "the ground is transparent");
    let [left, right] = [18, 45].map(|x| picture.get_pixel(x, 16).0);
    assert!(left[0] > 200 && right[2] > 200 && left[3] == 255, "{left:?} {right:?}");
}

#[test]
fn drawings_that_show_nothing_or_need_more_are_refused() {
    let svg = |inside: &str| {
        format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 9 9\">{inside}</svg>")
    };
    let refused = |inside: &str| format!("{:#}", render(&svg(inside), 32).unwrap_err());
    assert_eq!(refused(""), "nothing is to be seen");
    assert_eq!(refused("<text y=\"9\">no fonts</text>"), "nothing is to be seen");
    assert_eq!(refused("<image href=\"/etc/passwd\"/>"), "a raster picture is inside");
    assert!(render("no drawing", 32).is_err());
    assert!(render("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"0\" height=\"0\"/>", 32).is_err());
    assert!(refused(&" ".repeat(9 << 20)).contains("the limit"));
}

//! Conversations: several questions about one picture, about two pictures, or without a picture. Answers are
//! short, descriptions are full sentences.

use super::WorldPage;
use super::author::Author;
use super::lexicon::{Class, capital, number, with_article};
use super::questions::Category;
use super::scene::{Scene, Wording};
use crate::chat::{Role, Turn, render};
use crate::document::Segment;

/// What questions about two pictures are about.
const RESPECTS: [Category; 4] = [Category::What, Category::What, Category::Colour, Category::Count];

/// One conversation.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    let talk = author.weighted::<fn(&mut Author, &mut WorldPage) -> Vec<Exchange>>(&[
        (82, one_picture),
        (10, two_pictures),
        (8, words_only),
    ]);
    let exchanges = talk(author, &mut page);
    let mut turns = Vec::new();
    if author.chance(0.05) {
        turns.push(Turn { role: Role::System, segments: vec![Segment::prompt("Answer with a few words.")] });
    }
    // The pictures, which `talk` has put on the page, open the first question.
    let mut pictures = std::mem::take(&mut page.segments);
    for (question, answer) in exchanges {
        pictures.push(Segment::prompt(question));
        turns.push(Turn::user(std::mem::take(&mut pictures)));
        turns.push(Turn::assistant(answer));
    }
    page.segments = render(&turns);
    page
}

/// A question and its answer.
pub(super) type Exchange = (String, String);

/// Two to five questions about one picture, no two the same; on a quarter of them, one asks for a
/// description.
fn one_picture(author: &mut Author, page: &mut WorldPage) -> Vec<Exchange> {
    let number = author.weighted(&[(30, 1), (30, 2), (20, 3), (20, 4)]);
    let scene = author.scene_of(number);
    page.picture(&scene);
    let count = author.pick(&[2, 3, 4, 5]);
    let mut wanted: Vec<Category> = Vec::new();
    while wanted.len() < count {
        let category = author.weighted(&[
            (44, Category::What),
            (13, Category::Colour),
            (13, Category::Count),
            (15, Category::Where),
            (15, Category::YesNo),
        ]);
        let once = matches!(category, Category::Colour | Category::Count);
        if !(once && wanted.contains(&category)) {
            wanted.push(category);
        }
    }
    // Names first, so that they can't be copied from another question.
    wanted.sort_by_key(|&c| c != Category::What);
    let mut named = Vec::new();
    let mut out: Vec<Exchange> = Vec::new();
    for category in wanted {
        if let Some(question) = author.ask(&scene, category, &mut named) {
            let answer = question.answers[0].clone();
            if !out.iter().any(|(text, _)| *text == question.text) {
                out.push((question.text, answer));
            }
        }
    }
    if author.chance(0.25) {
        let question = author.pick(&["Describe the picture.", "What do you see?", "Give a caption."]);
        let answer = capital(&format!("{}.", scene.description(author.world, Wording::default())));
        let at = author.pick(&[0, out.len()]);
        out.insert(at, (question.to_owned(), answer));
    }
    out
}

/// One or two questions that take both pictures to answer.
fn two_pictures(author: &mut Author, page: &mut WorldPage) -> Vec<Exchange> {
    let scenes = two_scenes(author);
    for scene in &scenes {
        page.picture(scene);
    }
    let mut out: Vec<Exchange> = Vec::new();
    for _ in 0..author.pick(&[1, 2]) {
        let respect = author.pick(&RESPECTS);
        let exchange = which(author, respect, &scenes);
        if !out.contains(&exchange) {
            out.push(exchange);
        }
    }
    out
}

/// Two scenes of different colours and numbers that share no emoji.
pub(super) fn two_scenes(author: &mut Author) -> [Scene; 2] {
    let first = author.scene();
    loop {
        let second = author.scene();
        let shared = second.objects.iter().any(|o| first.find(o.emoji).is_some());
        if !shared && second.colour != first.colour && second.objects.len() != first.objects.len() {
            return [first, second];
        }
    }
}

/// "Which picture shows the dog face?" "the second"
pub(super) fn which(author: &mut Author, respect: Category, scenes: &[Scene; 2]) -> Exchange {
    let at = author.pick(&[0, 1]);
    let scene = &scenes[at];
    let mut answer = ["the first", "the second"][at];
    let question = match respect {
        Category::Colour => {
            format!("Which picture has {} background?", with_article(scene.colour_name()))
        }
        Category::Count => {
            let (verb, sign) = author.pick(&[("more", true), ("fewer", false)]);
            let more = scene.objects.len() > scenes[1 - at].objects.len();
            if more != sign {
                answer = ["the second", "the first"][at];
            }
            format!("Which picture has {verb} objects?")
        }
        _ => {
            let object = author.pick(&scene.objects.iter().collect::<Vec<_>>());
            format!("Which picture shows the {}?", author.name(object.emoji))
        }
    };
    (question, answer.to_owned())
}

/// Two or three questions about things and numbers.
fn words_only(author: &mut Author, _: &mut WorldPage) -> Vec<Exchange> {
    let mut out: Vec<Exchange> = Vec::new();
    if author.chance(0.2) {
        let greeting = author.pick(&["Hello!", "Hi!"]);
        out.push((greeting.to_owned(), "Hello! Show me a picture.".to_owned()));
    }
    for _ in 0..author.pick(&[2, 3]) {
        let (first, second) = (author.pick(&[0, 1, 2, 3, 4]), author.pick(&[1, 2, 3, 4]));
        let sum = first + second;
        out.push(match author.pick(&[0, 1, 2]) {
            0 => (format!("What is {} and {}?", number(first), number(second)), number(sum).to_owned()),
            1 => (format!("Which number comes after {}?", number(sum)), number(sum + 1).to_owned()),
            _ => is_it(author),
        });
    }
    out
}

/// "Is a dog face an animal?" Half of the answers are yes.
fn is_it(author: &mut Author) -> Exchange {
    let emoji = author.pick(&(0..author.world.emoji.len()).collect::<Vec<_>>());
    let class = author.world.emoji[emoji].class;
    let others: Vec<Class> = Class::ALL.into_iter().filter(|&c| c != class).collect();
    let yes = author.chance(0.5);
    let named = if yes { class } else { author.pick(&others) };
    let question = format!("Is {} {}?", with_article(author.name(emoji)), named.phrase());
    (question, if yes { "yes" } else { "no" }.to_owned())
}

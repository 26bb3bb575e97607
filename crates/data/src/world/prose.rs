//! Text without pictures about the same world: descriptions of pictures, little stories, and facts. 40 to 120
//! words.

use rand::seq::SliceRandom as _;

use super::author::Author;
use super::interleaved::{PEOPLE, count_objects};
use super::lexicon::{Class, capital, fill, number, with_article};
use super::scene::{ObjectPlace, Scene, Wording};
use super::{Depiction, World, WorldPage};

/// A document has at least this many words, and ends with the paragraph that reaches them.
const FEWEST_WORDS: usize = 40;

/// One document: paragraphs of one manner.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    let paragraph = author.weighted::<fn(&mut Author, &mut WorldPage) -> String>(&[
        (50, description),
        (25, story),
        (25, lesson),
    ]);
    let mut words = 0;
    while words < FEWEST_WORDS {
        let text = paragraph(author, &mut page);
        words += text.split(' ').count();
        page.line();
        page.text(text);
    }
    page.end()
}

/// What a picture shows, with one or two things that follow from it.
fn description(author: &mut Author, page: &mut WorldPage) -> String {
    let scene = author.scene();
    let mut sentences = told(author, &scene);
    sentences.extend(conclusions(author, &scene));
    page.shown.push(Depiction::Scene(scene));
    sentences.join(" ")
}

/// The sentences that tell what a picture shows.
pub(super) fn told(author: &mut Author, scene: &Scene) -> Vec<String> {
    let opening = author.pick(&[
        "{person} has a picture.",
        "{person} looks at a picture.",
        "This is the picture of {person}.",
    ]);
    let ground = author.pick(&["The background is {colour}.", "It has {ground}."]);
    let count = author.pick(&["It shows {objects}.", "There {are} {objects} in it."]);
    let values = [
        ("{person}", author.pick(&PEOPLE)),
        ("{colour}", scene.colour_name()),
        ("{ground}", &with_article(&format!("{} background", scene.colour_name()))),
        ("{objects}", &count_objects(scene)),
        ("{are}", if scene.objects.len() == 1 { "is" } else { "are" }),
    ];
    let mut sentences = vec![fill(opening, &values), fill(ground, &values), fill(count, &values)];
    let first_place = author.chance(0.5);
    for object in &scene.objects {
        let place = object.place.name();
        let phrase = object.phrase(author.world, Wording { placeless: true, ..Wording::default() });
        sentences.push(if first_place {
            format!("In the {place} there is {phrase}.")
        } else {
            format!("{} is in the {place}.", capital(&phrase))
        });
    }
    sentences
}

/// One or two sentences that follow from a scene.
fn conclusions(author: &mut Author, scene: &Scene) -> Vec<String> {
    let object = author.pick(&scene.objects.iter().collect::<Vec<_>>());
    let absent = author.absent(scene);
    let mut out = vec![
        is_a(author, object.emoji),
        format!("There is no {} in the picture.", author.name(absent)),
        format!("Where is the {}? It is in the {}.", author.name(object.emoji), object.place.name()),
        format!("What is in the {}? It is {}.", object.place.name(), with_article(author.name(object.emoji))),
        format!("How many objects are there? {}.", capital(number(scene.objects.len()))),
    ];
    for a in &scene.objects {
        for b in &scene.objects {
            let (name_a, name_b) = (author.name(a.emoji), author.name(b.emoji));
            match (a.place, b.place) {
                (ObjectPlace::TopLeft, ObjectPlace::TopRight)
                | (ObjectPlace::BottomLeft, ObjectPlace::BottomRight) => {
                    out.push(format!("The {name_a} is to the left of the {name_b}."));
                    out.push(format!("The {name_b} is to the right of the {name_a}."));
                }
                (ObjectPlace::TopLeft, ObjectPlace::BottomLeft)
                | (ObjectPlace::TopRight, ObjectPlace::BottomRight) => {
                    out.push(format!("The {name_a} is above the {name_b}."));
                    out.push(format!("The {name_b} is below the {name_a}."));
                }
                _ => {}
            }
        }
    }
    out.shuffle(&mut author.rng);
    out.truncate(author.pick(&[1, 2]));
    out
}

/// Somebody looks for a thing in one place after the other, and finds it.
fn story(author: &mut Author, page: &mut WorldPage) -> String {
    let Search { scene, person, target, mut sentences } = search(author);
    sentences.push(format!("There is the {}!", author.name(target)));
    sentences
        .push(author.pick(&["Now {person} is happy.", "The search is over."]).replace("{person}", person));
    page.shown.push(Depiction::Scene(scene));
    sentences.join(" ")
}

/// A story up to where the thing is found.
pub(super) struct Search {
    pub(super) scene: Scene,
    person: &'static str,
    /// The emoji that is looked for.
    pub(super) target: usize,
    pub(super) sentences: Vec<String>,
}

/// A story of a search up to where "There is the dog face!" follows.
pub(super) fn search(author: &mut Author) -> Search {
    let count = author.pick(&[2, 3, 4]);
    let scene = author.scene_of(count);
    let mut path: Vec<_> = scene.objects.iter().collect();
    path.shuffle(&mut author.rng);
    let (target, others) = path.split_last().expect("a scene has objects");
    let (person, target_place) = (author.pick(&PEOPLE), target.place.name());
    let mut sentences = vec![
        format!("{person} looks for the {} in a picture.", author.name(target.emoji)),
        format!("The background is {}.", scene.colour_name()),
    ];
    for object in others {
        let a = with_article(author.name(object.emoji));
        sentences.push(format!("{person} looks in the {}. There is {a}.", object.place.name()));
    }
    sentences.push(format!("{person} looks in the {target_place}."));
    let target = target.emoji;
    Search { scene, person, target, sentences }
}

/// What things are, and how to count.
fn lesson(author: &mut Author, _: &mut WorldPage) -> String {
    let emoji: Vec<usize> = (0..author.world.emoji.len()).collect();
    let (a, b) = (author.pick(&emoji), author.pick(&emoji));
    let first = author.pick(&FIRST);
    let second = author.pick(&SECOND);
    let person = author.pick(&PEOPLE);
    let mut sentences = [
        is_a(author, a),
        is_not(author, b),
        sum(first, second).join(" "),
        next(first).join(" "),
        one_more(person, second).join(" "),
    ];
    sentences.shuffle(&mut author.rng);
    sentences.join(" ")
}

/// What is added to, and what is counted from.
pub(super) const FIRST: [usize; 5] = [0, 1, 2, 3, 4];
/// What is added.
pub(super) const SECOND: [usize; 4] = [1, 2, 3, 4];

/// "Two and three make", "five."
pub(super) fn sum(first: usize, second: usize) -> [String; 2] {
    [
        format!("{} and {} make", capital(number(first)), number(second)),
        format!("{}.", number(first + second)),
    ]
}

/// "After two comes", "three."
pub(super) fn next(first: usize) -> [String; 2] {
    [format!("After {} comes", number(first)), format!("{}.", number(first + 1))]
}

/// "Anna has three pictures and gets one more. Now Anna has", "four."
pub(super) fn one_more(person: &str, second: usize) -> [String; 2] {
    [
        format!("{person} has {} pictures and gets one more. Now {person} has", number(second + 1)),
        format!("{}.", number(second + 2)),
    ]
}

/// "A dog face is an animal."
fn is_a(author: &Author, emoji: usize) -> String {
    class_of(author.world, emoji, None).join(" ")
}

/// "A dog face is not a plant. It is an animal."
fn is_not(author: &mut Author, emoji: usize) -> String {
    let class = author.world.emoji[emoji].class;
    let others: Vec<Class> = Class::ALL.into_iter().filter(|&c| c != class).collect();
    let other = author.pick(&others);
    class_of(author.world, emoji, Some(other)).join(" ")
}

/// "A dog face is", "an animal."; or after what it is not: "A dog face is not a plant. It is", "an animal."
pub(super) fn class_of(world: &World, emoji: usize, not: Option<Class>) -> [String; 2] {
    let (name, class) = (world.emoji[emoji].name, world.emoji[emoji].class);
    let name = capital(&with_article(name));
    let said = match not {
        None => format!("{name} is"),
        Some(other) => format!("{name} is not {}. It is", other.phrase()),
    };
    [said, format!("{}.", class.phrase())]
}

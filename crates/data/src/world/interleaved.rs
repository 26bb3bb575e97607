//! Pages with two to nine pictures among text. Each page keeps one manner throughout, and manners differ
//! between pages, so that the first items tell what comes next: from this the model learns to follow
//! demonstrations.

use rand::Rng as _;

use super::WorldPage;
use super::author::Author;
use super::lexicon::{capital, fill, number, with_article};
use super::questions::Category;
use super::scene::{Scene, Wording};
use super::words::{HEADS, TAILS};

/// Most pictures of a page: eight demonstrations and a question, as evaluation shows them.
const MOST: usize = 9;

/// The names of people in stories.
pub(super) const PEOPLE: [&str; 6] = ["Anna", "Ben", "Clara", "David", "Emma", "Tom"];

#[derive(Clone, Copy)]
enum PageForm {
    Captions,
    Evaluation,
    List,
    Quiz,
    Binding,
    Comparison,
}

/// The first two have exactly the surface form of the evaluation's prompts.
const FORMS: [(u32, PageForm); 6] = [
    (14, PageForm::Captions),
    (21, PageForm::Evaluation),
    (20, PageForm::List),
    (15, PageForm::Quiz),
    (15, PageForm::Binding),
    (15, PageForm::Comparison),
];

/// A page of any form.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    match author.weighted(&FORMS) {
        PageForm::Captions => captions(author, &mut page),
        PageForm::Evaluation => quiz(author, &mut page, "Question: {q} Short answer: {a}"),
        PageForm::List => list(author, &mut page),
        PageForm::Quiz => {
            let label = author.pick(&[
                "Q: {q} A: {a}",
                "Question: {q} Answer: {a}",
                "{q} {a}",
                "{q} - {a}",
                "{q}\n{a}",
            ]);
            quiz(author, &mut page, label);
        }
        PageForm::Binding => binding(author, &mut page),
        PageForm::Comparison => comparison(author, &mut page),
    }
    page.end()
}

/// "A photo of …" after each picture: either the name alone or the full description.
fn captions(author: &mut Author, page: &mut WorldPage) {
    let full = author.chance(0.6);
    for _ in 0..author.rng.random_range(3..=MOST) {
        let scene = if full { author.scene() } else { author.scene_of(1) };
        let wording = Wording { sizeless: !full, placeless: !full, ..Wording::default() };
        let text = if full {
            scene.description(author.world, wording)
        } else {
            scene.objects[0].phrase(author.world, wording)
        };
        page.item(&scene, format!("A photo of {text}."));
    }
}

/// A question and its answer after each picture; answers are short on half of the pages, and sentences on the
/// others.
fn quiz(author: &mut Author, page: &mut WorldPage, label: &str) {
    let sentences = author.chance(0.5);
    let only = author.chance(0.4).then(|| author.category());
    for _ in 0..author.rng.random_range(3..=MOST) {
        let category = only.unwrap_or_else(|| author.category());
        let (scene, question) = author.pose(category);
        let answer = if sentences { &question.sentence } else { &question.answers[0] };
        page.item(&scene, fill(label, &[("{q}", &question.text), ("{a}", answer)]));
    }
}

impl Author<'_> {
    /// A kind of question; names, the hardest to learn, are asked for most.
    pub(super) fn category(&mut self) -> Category {
        self.weighted(&[
            (36, Category::What),
            (16, Category::Colour),
            (16, Category::Count),
            (16, Category::Where),
            (16, Category::YesNo),
        ])
    }
}

#[derive(Clone, Copy)]
enum Topic {
    Name,
    Colour,
    Count,
    ObjectPlace,
    Full,
}

/// What a page can say of each of its pictures, and how.
const LISTS: [(Topic, &[&str]); 5] = [
    (Topic::Name, &["{name}", "{A}.", "This is {a}.", "Here you see {a}.", "Next comes {a}."]),
    (Topic::Colour, &["{colour}", "The background is {colour}.", "A picture in {colour}."]),
    (Topic::Count, &["{number}", "{Objects}.", "Here you see {objects}."]),
    (Topic::ObjectPlace, &["{place}", "Look in the {place}.", "It is in the {place}."]),
    (Topic::Full, &["{Full}.", "This is {full}.", "Here you see {full}."]),
];

/// An illustrated list or story: an introduction on half of the pages, then pictures, each with its line.
fn list(author: &mut Author, page: &mut WorldPage) {
    let (topic, templates) = author.pick(&LISTS);
    let template = author.pick(templates);
    let (numbered, count) = (author.chance(0.2), author.pick(&[2, 3, 4, 5, 6, 7, 8]));
    if author.chance(0.5) {
        let intro = author.pick(&[
            "{person} took {count} pictures today.",
            "{person} has {count} pictures.",
            "These are the pictures of {person}.",
            "{person} went for a walk and took pictures.",
        ]);
        page.text(fill(intro, &[("{person}", author.pick(&PEOPLE)), ("{count}", number(count))]));
    }
    for i in 1..=count {
        let scene = match topic {
            Topic::Name | Topic::ObjectPlace => author.scene_of(1),
            Topic::Count => author.scene_for(Category::Count),
            Topic::Colour | Topic::Full => author.scene(),
        };
        let line = describe(author, &scene, template);
        page.item(&scene, if numbered { format!("{i}. {line}") } else { line });
    }
    if author.chance(0.2) {
        page.line();
        page.text("That is all.");
    }
}

/// Fills a template of [`LISTS`] with what is true of `scene`.
fn describe(author: &Author, scene: &Scene, template: &str) -> String {
    let first = &scene.objects[0];
    let a = with_article(author.name(first.emoji));
    let objects = count_objects(scene);
    let full = scene.description(author.world, Wording::default());
    fill(
        template,
        &[
            ("{name}", author.name(first.emoji)),
            ("{a}", &a),
            ("{A}", &capital(&a)),
            ("{colour}", scene.colour_name()),
            ("{number}", number(scene.objects.len())),
            ("{objects}", &objects),
            ("{Objects}", &capital(&objects)),
            ("{place}", first.place.name()),
            ("{full}", &full),
            ("{Full}", &capital(&full)),
        ],
    )
}

/// "one object", "two objects"
pub(super) fn count_objects(scene: &Scene) -> String {
    let count = scene.objects.len();
    format!("{} {}", number(count), if count == 1 { "object" } else { "objects" })
}

/// Two new words, each bound to an emoji by its pictures, and used later.
fn binding(author: &mut Author, page: &mut WorldPage) {
    let both = author.scene_of(2);
    let mut pair: Vec<usize> = both.objects.iter().map(|o| o.emoji).collect();
    if author.chance(0.5) {
        pair.reverse();
    }
    let mut word = || format!("{}{}", author.pick(&HEADS), author.pick(&TAILS));
    let mut words = [word(), word()];
    while words[0] == words[1] {
        words[1] = word();
    }
    if author.chance(0.3) {
        let meaning = |i: usize| format!("A {} is {}.", words[i], with_article(author.name(pair[i])));
        page.text(format!("{} {}", meaning(0), meaning(1)));
    }
    let template = author.pick(&["This is a {w}.", "{w}", "A {w}.", "Here you see a {w}."]);
    for turn in 0..author.pick(&[4, 5, 6, 7]) {
        // Both words come up first, then any.
        let i = if turn < 2 { turn } else { author.pick(&[0, 1]) };
        let scene = author.scene_with(pair[i], 1);
        page.item(&scene, fill(template, &[("{w}", &words[i])]));
    }
    let i = author.pick(&[0, 1]);
    if author.chance(0.5) {
        let object = both.find(pair[i]).expect("the pair comes from this scene");
        page.item(&both, format!("The {} is in the {}.", words[i], object.place.name()));
    } else {
        let shown = author.pick(&[0, 1]);
        let scene = author.scene_with(pair[shown], 1);
        let answer = if shown == i { "Yes, it is." } else { "No, it is not." };
        page.item(&scene, format!("Is this a {}? {answer}", words[i]));
    }
}

/// Pairs of pictures and how they compare, always in the same respect.
fn comparison(author: &mut Author, page: &mut WorldPage) {
    let topic = author.pick(&[Topic::Name, Topic::Colour, Topic::Count, Topic::ObjectPlace]);
    let form = author.pick(&[0, 1]);
    for _ in 0..author.pick(&[1, 2, 3]) {
        let [first, second] = scenes_to_compare(author, topic);
        let text = compare(author, topic, form, [&first, &second]);
        page.line();
        page.picture(&first);
        page.picture(&second);
        page.text(text);
    }
}

fn scenes_to_compare(author: &mut Author, topic: Topic) -> [Scene; 2] {
    let first = match topic {
        Topic::Count => author.scene_for(Category::Count),
        Topic::Colour => author.scene(),
        _ => author.scene_of(1),
    };
    let second = match topic {
        // Half of the pairs share their colour.
        Topic::Colour if author.chance(0.5) => author.scene_like(&first, first.objects.len()),
        Topic::Colour => author.scene(),
        Topic::Count if author.chance(0.3) => author.scene_of(first.objects.len()),
        Topic::Count => author.scene_for(Category::Count),
        _ => {
            let emoji = author.absent(&first);
            author.scene_with(emoji, 1)
        }
    };
    [first, second]
}

/// One sentence on two scenes, in one of two forms.
fn compare(author: &mut Author, topic: Topic, form: usize, [first, second]: [&Scene; 2]) -> String {
    let names = [first, second].map(|s| author.name(s.objects[0].emoji));
    let counts = [first, second].map(|s| s.objects.len());
    match (topic, form) {
        (Topic::Name, 0) => {
            let [a, b] = names.map(with_article);
            format!("The first picture shows {a}, the second {b}.")
        }
        (Topic::Name, _) => {
            let (i, which) = author.pick(&[(0, "first"), (1, "second")]);
            format!("The {} is in the {which} picture.", names[i])
        }
        (Topic::Colour, _) if first.colour == second.colour => {
            format!("Both backgrounds are {}.", first.colour_name())
        }
        (Topic::Colour, 0) => {
            format!("The first background is {}, the second {}.", first.colour_name(), second.colour_name())
        }
        (Topic::Colour, _) => format!("{} and {}.", capital(first.colour_name()), second.colour_name()),
        (Topic::Count, 0) if counts[0] == counts[1] => format!("Both have {}.", count_objects(first)),
        (Topic::Count, 0) => {
            let which = if counts[0] > counts[1] { "first" } else { "second" };
            format!("The {which} picture has more objects.")
        }
        (Topic::Count, _) => {
            format!("The first picture has {}, the second {}.", count_objects(first), count_objects(second))
        }
        (Topic::ObjectPlace | Topic::Full, _) => {
            let [a, b] = [first, second].map(|s| s.objects[0].place.name());
            format!("The {} is in the {a}, the {} in the {b}.", names[0], names[1])
        }
    }
}

//! `docs/reference/commands.md`: every command's help, as the program prints it.

use std::fmt::Write as _;

use crate::{mm1, succeeds};

/// The page.
pub(super) fn markdown() -> String {
    let mut pages = Vec::new();
    collect(&[], &mut pages);
    let mut text = String::from(
        "# Commands\n\n\
         <!-- Written by `MM1_UPDATE=1 cargo test --release -p mm1 --test it reference`: change the program. \
         -->\n\n\
         What `mm1 COMMAND --help` prints, for every command. `-h` prints less.\n\
         What commands write, and their exit codes: [files](files.md). The fields of recipes: \
         [recipe](recipe.md).\n\n",
    );
    for (words, _) in &pages {
        let indent = "  ".repeat(words.len() - 1);
        let _ = writeln!(text, "{indent}- [`{}`](#{})", words.join(" "), words.join("-"));
    }
    for (words, help) in &pages {
        let _ = write!(text, "\n## {}\n\n```text\n{}\n```\n", words.join(" "), help.trim_end());
    }
    text
}

/// A command as it is typed, and its help.
type Page = (Vec<String>, String);

/// Adds the help of the command of `words` below `mm1`, and of all commands below it.
fn collect(words: &[&str], pages: &mut Vec<Page>) {
    let done = mm1(words).arg("--help").output().unwrap();
    succeeds(&done);
    let help = String::from_utf8(done.stdout).unwrap();
    pages.push((["mm1"].iter().chain(words).map(ToString::to_string).collect(), help.clone()));
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    for line in listed.lines().take_while(|line| line.is_empty() || line.starts_with("  ")) {
        // Names are indented by two columns, what is said of them by more.
        let name = line.strip_prefix("  ").filter(|line| !line.starts_with(' '));
        let name = name.and_then(|line| line.split_whitespace().next()).filter(|&name| name != "help");
        if let Some(name) = name {
            collect(&[words, &[name]].concat(), pages);
        }
    }
}

//! The axes of a study and their combinations.

use mm1_lab::grid::{Ablation, StudyGrid};

const AXES: &str = r#"
[[axis]]
path = "model.connector.kind"
values = ["average-pool", "c-abstractor"]
margin = 2

[[axis]]
name = "mixture"
[[axis.value]]
name = "half"
set = { "stage.pretrain.mixture.captioned" = 0.5, "stage.pretrain.mixture.interleaved" = 0.5 }
[[axis.value]]
name = "all"
set = { "stage.pretrain.mixture.captioned" = 1.0, "stage.pretrain.mixture.interleaved" = 0.0 }

[[axis]]
path = "seed"
values = [1, 2, 3]
"#;

fn grid(text: &str) -> Result<StudyGrid, String> {
    let ablation: Ablation = toml::from_str(text).map_err(|e| e.message().to_owned())?;
    ablation.grid().map_err(|e| format!("{e:#}"))
}

#[test]
fn every_combination_comes_once_and_the_last_axis_changes_fastest() {
    let grid = grid(AXES).unwrap();
    let names: Vec<String> = grid.combinations.iter().map(|of| grid.names(of).join(" ")).collect();
    assert_eq!(names.len(), 12);
    assert_eq!(
        names[..4],
        ["average-pool half 1", "average-pool half 2", "average-pool half 3", "average-pool all 1"]
    );
    let axes: Vec<(&str, bool)> = grid.axes.iter().map(|axis| (axis.name.as_str(), axis.repeats)).collect();
    assert_eq!(axes, [("connector kind", false), ("mixture", false), ("seed", true)]);
    assert!(grid.repeats() && grid.axes[0].margin == Some(2.0));
    let settings: Vec<String> =
        grid.settings(&grid.combinations[11]).map(|(path, value)| format!("{path}={value}")).collect();
    assert_eq!(
        settings,
        [
            "model.connector.kind=\"c-abstractor\"",
            "stage.pretrain.mixture.captioned=1.0",
            "stage.pretrain.mixture.interleaved=0.0",
            "seed=3",
        ]
    );
}

#[test]
fn what_is_excluded_is_left_out_and_the_base_is_what_is_named() {
    let more =
        "[base]\nmixture = \"all\"\n[[exclude]]\n\"connector kind\" = \"c-abstractor\"\nmixture = \"half\"\n";
    let grid = grid(&(AXES.to_owned() + more)).unwrap();
    assert_eq!(grid.combinations.len(), 9);
    assert!(grid.combinations.iter().all(|of| grid.names(of)[..2] != ["c-abstractor", "half"]));
    assert_eq!((grid.axes[0].base, grid.axes[1].base), (0, 1));
}

#[test]
fn numbers_are_named_as_they_are_written() {
    let text = "[[axis]]\npath = \"stage.pretrain.optimizer.lr\"\nvalues = [1e-3, 2e-3]\n[[axis]]\npath = \
                \"model.connector.tokens\"\nvalues = [16, 64]\n[base]\n\"connector tokens\" = \
                64\n\"optimizer lr\" = 2e-3\n";
    let grid = grid(text).unwrap();
    assert_eq!(grid.names(&grid.combinations[3]), ["0.002", "64"]);
    assert_eq!((grid.axes[0].base, grid.axes[1].base), (1, 1));
}

#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    let axis = |text: &str| format!("{AXES}[[axis]]\n{text}\n");
    let end = |text: &str| format!("{AXES}{text}\n");
    for (text, words) in [
        (axis(""), &["axis.3 needs a path with values"][..]),
        (axis("path = \"a.b\""), &["axis \"a.b\" needs values = […]"]),
        (axis("name = \"x\""), &["axis \"x\" needs values to choose from"]),
        (axis("name = \"x\"\nvalues = [1]"), &["axis \"x\" has values = […] and no path"]),
        (
            axis("path = \"a.b\"\nvalues = [1]\nvalue = [{ name = \"x\", set = {} }]"),
            &["axis \"a.b\" has a path and [[ablation.axis.value]]"],
        ),
        (axis("path = \"a.b\"\nvalues = [1, 1]"), &["axis \"a.b\"", "the value \"1\" comes twice"]),
        (axis("name = \"mixture\"\npath = \"a.b\"\nvalues = [1]"), &["two axes have the name \"mixture\""]),
        (axis("name = \"again\"\npath = \"seed\"\nvalues = [4]"), &["\"seed\" and \"again\" both set seed"]),
        (
            axis("name = \"whole\"\nvalue = [{ name = \"x\", set = { \"model.connector\" = {} } }]"),
            &["the axis \"whole\" sets model.connector as a whole", "put it before that axis"],
        ),
        (axis("path = \"a\"\nvalues = [1]\nmargin = 0"), &["margin = 0 must be above 0"]),
        (AXES.replace("[1, 2, 3]", "[1, 2, 3]\nmargin = 1"), &["axis \"seed\"", "margin: seeds are repeats"]),
        (AXES.replace("[1, 2, 3]", "[1, -2]"), &["seed = -2 must be a whole number"]),
        (
            end("[base]\nkind = \"x\""),
            &["base: no axis has the name \"kind\"; there are: connector kind, mixture"],
        ),
        (
            end("[base]\nmixture = \"x\""),
            &["base: the axis \"mixture\" has no value \"x\"; it has: half, all"],
        ),
        (end("[[exclude]]\nmixtur = \"all\""), &["exclude.0: no axis has the name \"mixtur\""]),
        (end("[[exclude]]\nmixture = \"most\""), &["exclude.0: the axis \"mixture\" has no value \"most\""]),
        (end("[[exclude]]"), &["exclude.0 is empty"]),
        (end("[[exclude]]\nmixture = \"half\""), &["exclude.0 leaves out the base", "ablation.base"]),
        (end("[[exclude]]\nmixture = \"all\"\nseed = 2"), &["exclude.0: \"seed\" repeats every setting"]),
        (
            end("[[exclude]]\nmixture = \"all\"\n[[exclude]]\nmixture = \"all\"\n\"connector kind\" = \
                 \"c-abstractor\""),
            &["exclude.1 leaves out nothing"],
        ),
        (
            end("[paper]\ntitle = \"x\"\ncolumns = [\"a\", \"b\"]\nrows = [[\"1\", \"2\"], [\"3\"]]"),
            &["paper.rows.1 has 1 texts for 2 columns: give one for each"],
        ),
        (end("[bases]"), &["unknown field `bases`"]),
        (
            (0..17).map(|i| format!("[[axis]]\npath = \"a.b{i}\"\nvalues = [1, 2]\n")).collect(),
            &["all values of 17 axes with each other are more than 65536 combinations"],
        ),
        (
            (0..80).map(|i| format!("[[axis]]\npath = \"a.b{i}\"\nvalues = [1, 2]\n")).collect(),
            &["all values of 80 axes"],
        ),
        ("axis = []".to_owned(), &["ablation.axis needs values to choose from"]),
    ] {
        let error = grid(&text).map(|grid| grid.combinations).unwrap_err();
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }
}

//! The connector in other programs: what its parameters become.

use anyhow::{Result, bail, ensure};

use super::part::{ExportedPart, ParameterPart, columns, whole};
use super::vision::{kernel, norm_part};
use crate::config::Mm1Config;
use crate::connector::ConnectorConfig;

/// How a form calls the tensors of a connector.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConnectorNames {
    /// By the paths of the parameters, each map `[out, in]`.
    Paths,
    /// One map of squares of patches side by side, which has this name.
    Joined(&'static str),
    /// The two maps of a perceptron, which have these names.
    Mlp([&'static str; 2]),
}

impl ConnectorNames {
    /// What the connector's parameter at `path` (`connector.project`) of this shape becomes.
    ///
    /// # Errors
    /// A connector that does not pool whole squares, where these are joined.
    pub(crate) fn places(self, path: &str, shape: &[usize], model: &Mm1Config) -> Result<Vec<ExportedPart>> {
        match self {
            Self::Paths => Ok(by_path(path, shape)),
            Self::Mlp([hidden, project]) => match path {
                "connector.hidden" => {
                    Ok(columns(shape[0], vec![(format!("{hidden}.weight"), shape[1], None)]))
                }
                "connector.hidden_bias" => Ok(whole(format!("{hidden}.bias"), shape)),
                "connector.project" => {
                    Ok(columns(shape[0], vec![(format!("{project}.weight"), shape[1], None)]))
                }
                "connector.project_bias" => Ok(whole(format!("{project}.bias"), shape)),
                _ => bail!("it has no place in the file"),
            },
            Self::Joined(name) => {
                let side = pool_side(model)?;
                let shape = vec![shape[1], side * side * shape[0]];
                Ok(vec![ExportedPart { name: name.to_owned(), shape, part: ParameterPart::Pooled(side) }])
            }
        }
    }
}

fn by_path(path: &str, shape: &[usize]) -> Vec<ExportedPart> {
    if let (Some(kind), Some((norm, _))) = (norm_part(path), path.rsplit_once('.')) {
        return whole(format!("{norm}.{kind}"), shape);
    }
    if let Some(map) = path.strip_suffix("_bias") {
        return whole(format!("{map}.bias"), shape);
    }
    match path.rsplit('.').next() {
        // Tables, no maps.
        Some("queries" | "position") => whole(path.to_owned(), shape),
        Some("depthwise") => vec![kernel(format!("{path}.weight"), vec![shape[1], 1, 3, 3])],
        Some("weight") => {
            columns(shape[0], vec![(path.replace("shortcut.", "shortcut.map."), shape[1], None)])
        }
        _ => columns(shape[0], vec![(format!("{path}.weight"), shape[1], None)]),
    }
}

/// Refuses a connector behind which the decoder has layers that no other program has.
///
/// # Errors
/// The field and the remedy.
pub fn check_connector(connector: &ConnectorConfig) -> Result<()> {
    ensure!(
        connector.fills_the_sequence(),
        "model.connector.kind = \"cross-attention\": no other program reads a model with layers between the \
         decoder's blocks; `mm1 chat` and `mm1 serve` do, and other connectors can be exported"
    );
    Ok(())
}

/// Patches along a side of those that become one image token of an Idefics3.
///
/// # Errors
/// A connector that is no mean of whole squares of patches, or has a bias.
pub(crate) fn pool_side(model: &Mm1Config) -> Result<usize> {
    let ConnectorConfig::AveragePool(pool) = &model.connector else {
        bail!(
            "model.connector.kind: Idefics3 joins squares of patches, which is \"average-pool\" alone: take \
             that, or export = \"own\""
        )
    };
    ensure!(
        !pool.bias,
        "model.connector.bias: the connector of Idefics3 has no bias: set it to false, or take export = \
         \"own\""
    );
    let (grid, side) = (model.vision.grid(), pool.tokens.isqrt());
    let possible = (1..=grid).filter(|side| grid.is_multiple_of(*side)).map(|side| (side * side).to_string());
    ensure!(
        grid.is_multiple_of(side),
        "model.connector.tokens = {}, but Idefics3 pools whole squares of the {grid}x{grid} patches: take \
         one of {}",
        pool.tokens,
        possible.collect::<Vec<_>>().join(", ")
    );
    Ok(grid / side)
}

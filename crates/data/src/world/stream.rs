//! [`WorldStream`]: which documents of the world a source yields.

use serde::{Deserialize, Serialize};

use crate::document::DocumentKind;

/// A stream of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorldStream {
    /// One emoji with a short, noisy text: MM1's captioned data.
    Captioned,
    /// Scenes with a full description: MM1's synthetic captions.
    Scenes,
    /// Pages with several pictures.
    Interleaved,
    /// Prose without pictures.
    Text,
    /// Conversations for tuning.
    Chat,
    /// Questions about two pictures.
    Pairs,
    /// New words, bound to pictures and used at once.
    Binding,
    /// Signs and what they say.
    Signs,
    /// One emoji in any pose and light before any ground, and its name.
    Renderings,
    /// The same on white.
    Stickers,
    /// Detailed pictures with a description or a question.
    Detail,
    /// Conversations about detailed pictures.
    DetailChat,
    /// Pages of one picture and questions whose words do not tell the answer.
    Quiz,
    /// Requests for descriptions of scenes, for tuning.
    Descriptions,
    /// Questions about one picture, for tuning, whose words do not tell the answer.
    Vqa,
    /// Questions about several pictures, for tuning, half of them with a chain of thought.
    Reasoning,
}

impl WorldStream {
    /// Every stream.
    pub const ALL: [Self; 16] = [
        Self::Captioned,
        Self::Scenes,
        Self::Interleaved,
        Self::Text,
        Self::Chat,
        Self::Pairs,
        Self::Binding,
        Self::Signs,
        Self::Renderings,
        Self::Stickers,
        Self::Detail,
        Self::DetailChat,
        Self::Quiz,
        Self::Descriptions,
        Self::Vqa,
        Self::Reasoning,
    ];

    /// As sample ids write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Captioned => "emoji-captioned",
            Self::Scenes => "emoji-scenes",
            Self::Interleaved => "emoji-interleaved",
            Self::Text => "emoji-text",
            Self::Chat => "emoji-chat",
            Self::Pairs => "emoji-pairs",
            Self::Binding => "emoji-binding",
            Self::Signs => "emoji-signs",
            Self::Renderings => "emoji-renderings",
            Self::Stickers => "emoji-stickers",
            Self::Detail => "emoji-detail",
            Self::DetailChat => "emoji-detail-chat",
            Self::Quiz => "emoji-quiz",
            Self::Descriptions => "emoji-descriptions",
            Self::Vqa => "emoji-vqa",
            Self::Reasoning => "emoji-reasoning",
        }
    }

    /// The kind of its documents.
    pub fn kind(self) -> DocumentKind {
        match self {
            Self::Captioned | Self::Signs | Self::Renderings | Self::Stickers => DocumentKind::Captioned,
            Self::Scenes | Self::Detail => DocumentKind::Synthetic,
            Self::Interleaved | Self::Pairs | Self::Binding | Self::Quiz => DocumentKind::Interleaved,
            Self::Text => DocumentKind::TextOnly,
            Self::Chat | Self::DetailChat | Self::Descriptions | Self::Vqa | Self::Reasoning => {
                DocumentKind::Conversation
            }
        }
    }
}

//! The kinds of detailed pictures, and what their questions ask for.

/// What a detailed picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetailKind {
    /// Small signs among large things.
    Street,
    /// Items and prices.
    Receipt,
    /// Numbers with names for rows and columns.
    Table,
    /// Places with an emoji and a name, and water.
    Map,
    /// Bars with names, and numbers on the axis.
    Chart,
    /// Many small emoji.
    Crowd,
}

impl DetailKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Street, Self::Receipt, Self::Table, Self::Map, Self::Chart, Self::Crowd];

    /// As answers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Street => "street",
            Self::Receipt => "receipt",
            Self::Table => "table",
            Self::Map => "map",
            Self::Chart => "chart",
            Self::Crowd => "crowd",
        }
    }
}

/// What a question about a detailed picture asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetailCategory {
    /// The word on a sign.
    Sign,
    /// The price of an item.
    Price,
    /// The name in a row of a receipt or a table.
    Item,
    /// A number in a table.
    Cell,
    /// The name beside an emoji of a map or below a bar.
    Label,
    /// The value of a bar.
    Value,
    /// How often an emoji is there.
    Count,
    /// Whether something is there or more than another; half of the answers are yes.
    YesNo,
    /// What kind of picture it is.
    Kind,
    /// On which of two sides most things or the water are.
    Side,
    /// The colour of the tallest or shortest bar.
    Tallest,
}

impl DetailCategory {
    /// Every category.
    pub const ALL: [Self; 11] = [
        Self::Sign,
        Self::Price,
        Self::Item,
        Self::Cell,
        Self::Label,
        Self::Value,
        Self::Count,
        Self::YesNo,
        Self::Kind,
        Self::Side,
        Self::Tallest,
    ];

    /// As scores write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Price => "price",
            Self::Item => "item",
            Self::Cell => "cell",
            Self::Label => "label",
            Self::Value => "value",
            Self::Count => "count",
            Self::YesNo => "yes-no",
            Self::Kind => "kind",
            Self::Side => "side",
            Self::Tallest => "tallest",
        }
    }

    /// `whole` where a small copy of the picture is enough, else `detail`.
    pub fn needs(self) -> &'static str {
        match self {
            Self::Kind | Self::Side | Self::Tallest => "whole",
            _ => "detail",
        }
    }

    /// Of which pictures it is asked.
    pub(super) fn kinds(self) -> &'static [DetailKind] {
        match self {
            Self::Sign => &[DetailKind::Street],
            Self::Price => &[DetailKind::Receipt],
            Self::Item => &[DetailKind::Receipt, DetailKind::Table],
            Self::Cell => &[DetailKind::Table],
            Self::Label => &[DetailKind::Map, DetailKind::Chart],
            Self::Value | Self::Tallest => &[DetailKind::Chart],
            Self::Count => &[DetailKind::Crowd],
            Self::Side => &[DetailKind::Map, DetailKind::Crowd],
            Self::YesNo | Self::Kind => &DetailKind::ALL,
        }
    }
}

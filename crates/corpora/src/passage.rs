//! Long documents in passages: a row takes a few hundred tokens, and what does not fit into it is lost.

use mm1_data::document::{Document, DocumentKind, Segment, Special};

/// What a picture counts for, in words.
const PICTURE_WORDS: usize = 12;

/// Cuts a document into passages of at most `words` words (a picture counts for 12), at ends of lines or else
/// of sentences; a longer sentence stays whole, and so does a picture with the first line after it. A passage
/// without pictures is text. With 0 the document stays as it is.
pub(crate) fn passages(document: Document, words: usize) -> Vec<Document> {
    if words == 0 {
        return vec![document];
    }
    let (mut done, mut open) = (Vec::new(), Passage::default());
    for segment in document.segments {
        match segment {
            Segment::Text { text, learn } => {
                for piece in pieces(&text, words) {
                    let cost = piece.split_whitespace().count();
                    if open.text && open.taken + cost > words {
                        done.push(std::mem::take(&mut open));
                    }
                    open.push(piece, learn, cost);
                }
            }
            Segment::Image(_) => {
                if open.text && open.taken + PICTURE_WORDS > words {
                    done.push(std::mem::take(&mut open));
                }
                open.taken += PICTURE_WORDS;
                open.segments.push(segment);
            }
            Segment::Token { .. } => {}
        }
    }
    // A passage of pictures alone would have nothing to learn.
    match done.last_mut() {
        // Pictures at the end, without a text of their own.
        Some(last) if !open.text => last.segments.append(&mut open.segments),
        _ => done.push(open),
    }
    let several = done.len() > 1;
    let close = |(number, Passage { mut segments, .. }): (usize, Passage)| {
        let pictures = segments.iter().any(|segment| matches!(segment, Segment::Image(_)));
        segments.push(Segment::Token { token: Special::End, learn: true });
        let id = if several { format!("{}#{number}", document.id) } else { document.id.clone() };
        let kind = if pictures { DocumentKind::Interleaved } else { DocumentKind::TextOnly };
        Document { id, kind, segments }
    };
    done.into_iter().enumerate().map(close).collect()
}

#[derive(Default)]
struct Passage {
    segments: Vec<Segment>,
    /// In words.
    taken: usize,
    /// Whether it has any word.
    text: bool,
}

impl Passage {
    fn push(&mut self, piece: &str, learned: bool, words: usize) {
        self.taken += words;
        self.text |= words > 0;
        match self.segments.last_mut() {
            Some(Segment::Text { text, learn }) if *learn == learned => {
                // Where a picture between two words was removed.
                if !text.ends_with(char::is_whitespace) && !piece.starts_with(char::is_whitespace) {
                    text.push(' ');
                }
                text.push_str(piece);
            }
            // A passage does not begin with the line break that ended the one before.
            None if words == 0 => {}
            _ => self.segments.push(Segment::Text { text: piece.to_owned(), learn: learned }),
        }
    }
}

/// Lines with their ends; lines of more than `words` words by sentence.
fn pieces(text: &str, words: usize) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').flat_map(move |line| {
        let long = line.split_whitespace().count() > words;
        let sentence = if long { ". " } else { "\n" };
        line.split_inclusive(sentence)
    })
}

/// A document of text alone.
pub(crate) fn text_document(id: String, text: String) -> Document {
    let end = Segment::Token { token: Special::End, learn: true };
    Document { id, kind: DocumentKind::TextOnly, segments: vec![Segment::text(text), end] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mm1_data::document::Image;

    fn shown(document: &Document) -> String {
        let piece = |segment: &Segment| match segment {
            Segment::Text { text, .. } => text.clone(),
            Segment::Image(_) => "[]".to_owned(),
            Segment::Token { .. } => "$".to_owned(),
        };
        format!(
            "{} {:?} {}",
            document.id,
            document.kind,
            document.segments.iter().map(piece).collect::<String>()
        )
    }

    #[test]
    fn long_documents_are_cut_at_lines_and_sentences() {
        let picture = || Segment::Image(Image::from(vec![1]));
        let segments = vec![
            Segment::text("one two three\nfour five six\nseven eight "),
            picture(),
            Segment::text("\nnine. ten eleven. a sentence that is longer than any passage may be. end"),
            Segment::Token { token: Special::End, learn: true },
        ];
        let page = Document { id: "p".into(), kind: DocumentKind::Interleaved, segments };
        let whole = passages(page.clone(), 0);
        assert_eq!(whole, std::slice::from_ref(&page));
        let cut: Vec<String> = passages(page.clone(), 6).iter().map(shown).collect();
        assert_eq!(
            cut,
            [
                "p#0 TextOnly one two three\nfour five six\n$",
                "p#1 TextOnly seven eight $",
                "p#2 Interleaved []\nnine. $",
                "p#3 TextOnly ten eleven. $",
                "p#4 TextOnly a sentence that is longer than any passage may be. $",
                "p#5 TextOnly end$",
            ]
        );
        let last = Document { segments: vec![Segment::text("a b\nc d"), picture(), picture()], ..page };
        let cut: Vec<String> = passages(last, 2).iter().map(shown).collect();
        assert_eq!(cut, ["p#0 TextOnly a b\n$", "p#1 Interleaved c d[][]$"]);
    }
}

//! [`TextStream`]: tokens to text as they come.

/// Joins the bytes of tokens to text as they come: a character that spans tokens is held back until it is
/// whole.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    /// The beginning of a character: never a whole one.
    pending: Vec<u8>,
}

impl TextStream {
    /// The text that is whole with these further bytes.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let open = self.pending.utf8_chunks().last().map_or(0, |chunk| {
            let tail = chunk.invalid();
            let incomplete = std::str::from_utf8(tail).is_err_and(|e| e.error_len().is_none());
            if incomplete { tail.len() } else { 0 }
        });
        let rest = self.pending.split_off(self.pending.len() - open);
        String::from_utf8_lossy(&std::mem::replace(&mut self.pending, rest)).into_owned()
    }

    /// What is left at the end.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

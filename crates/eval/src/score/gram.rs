//! N-grams of a caption's words, as CIDEr and BLEU count them.

/// Longest n-gram.
pub(super) const ORDERS: usize = 4;

/// Up to four word ids, which start at 1; 0 fills the unused end.
pub(super) type Ngram = [u32; ORDERS];

/// N-grams, sorted, with how often each is there.
pub(super) type NgramCounts = Vec<(Ngram, u32)>;

/// The index of an n-gram's length: 0 for single words.
pub(super) fn order(gram: &Ngram) -> usize {
    gram.iter().filter(|&&id| id != 0).count() - 1
}

/// Every n-gram of a text.
pub(super) fn count(ids: &[u32]) -> NgramCounts {
    let mut grams: Vec<Ngram> = Vec::with_capacity(ids.len() * ORDERS);
    for n in 1..=ORDERS {
        for window in ids.windows(n) {
            let mut gram = [0; ORDERS];
            gram[..n].copy_from_slice(window);
            grams.push(gram);
        }
    }
    grams.sort_unstable();
    let mut counts = Vec::with_capacity(grams.len());
    counts.extend(grams.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)));
    counts
}

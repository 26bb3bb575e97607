//! Chat templates of others, guarded: [`guarded`] rewrites one so that each value it keeps is measured by
//! [`Guard`].
//!
//! minijinja's fuel pays for instructions and for the bytes that they make. It does not see lists of lists
//! that are small in memory and endless once they are joined, compared or written, nor values so deep that
//! dropping them overflows the stack, nor a namespace inside of itself. A template keeps values in `set`,
//! `for` and the arguments of a macro; those are measured. One tag by itself has few operations.
// Rejected: a process of its own for each template, which is safe by itself, but is no library any more.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail, ensure};
use minijinja::machinery::{Span, Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// The most tokens of one tag: each operation takes a frame of the stack, when it is read and when it runs.
const LONGEST_TAG: usize = 2000;
/// The most `elif` of a template: each takes a frame too.
const MOST_BRANCHES: usize = 500;
/// How deep a value may be.
const DEEPEST: usize = 8;
/// Parts of a value for which one unit of fuel pays.
const PARTS_PER_FUEL: usize = 4;

/// The function that measures a value whose name may be a namespace's, and the one for all others.
pub(super) const NAMED: &str = "mm1_measured_name";
pub(super) const KEPT: &str = "mm1_measured";

/// Measures the values that a template keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    /// The most that a value may hold: bytes of texts, and one for each part.
    pub(super) most: usize,
}

impl Guard {
    /// The value, if it is small enough: as a list, where it is only the way to make one.
    ///
    /// # Errors
    /// One that holds more, is too deep, or has what is no data inside (a namespace, a macro).
    pub(super) fn kept(
        self,
        state: &State<'_, '_>,
        value: Value,
        may_be_namespace: bool,
    ) -> Result<Value, Error> {
        let (mut room, mut parts) = (self.most, 0);
        let data = is_data(&value) || may_be_namespace;
        if !data || !fits(&value, DEEPEST, &mut room, &mut parts) {
            return Err(ErrorKind::OutOfFuel.into());
        }
        state.consume_fuel((parts / PARTS_PER_FUEL) as u64)?;
        if value.kind() == ValueKind::Iterable {
            return Ok(value.try_iter()?.collect());
        }
        Ok(value)
    }
}

/// Whether a value is a text, a number, a list or a map, and no object that can change or call.
fn is_data(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Map => value.downcast_object_ref::<BTreeMap<Value, Value>>().is_some(),
        ValueKind::Plain | ValueKind::Invalid => false,
        _ => true,
    }
}

/// Takes what `value` holds from `room` and counts its parts; whether there was enough, and no part is deeper
/// than `deepest`.
fn fits(value: &Value, deepest: usize, room: &mut usize, parts: &mut usize) -> bool {
    *parts += 1;
    let own = value.as_bytes().map_or(1, |bytes| bytes.len() + 1);
    let Some(left) = room.checked_sub(own) else { return false };
    *room = left;
    if !matches!(value.kind(), ValueKind::Map | ValueKind::Seq | ValueKind::Iterable) {
        return true;
    }
    let (Some(deepest), Ok(mut items)) = (deepest.checked_sub(1), value.try_iter()) else { return false };
    items.all(|item| {
        let inner = |value: &Value, room: &mut usize, parts: &mut usize| {
            is_data(value) && fits(value, deepest, room, parts)
        };
        let member = (value.kind() == ValueKind::Map).then(|| value.get_item(&item).unwrap_or_default());
        inner(&item, room, parts) && member.is_none_or(|member| inner(&member, room, parts))
    })
}

/// The template with calls of [`NAMED`] and [`KEPT`] around all that it keeps.
///
/// # Errors
/// What is no Jinja, with its line; tags that could not be measured, by their names.
pub(super) fn guarded(source: &str, syntax: SyntaxConfig) -> Result<String> {
    ensure!(!source.contains(KEPT), "the chat template uses a name of this program: {KEPT}");
    let tokens = tokenize(source, false, syntax).collect::<Result<Vec<_>, _>>();
    let tokens = tokens.map_err(|error| {
        anyhow!("the chat template is no Jinja that is read: {}", super::in_words(&error))
    })?;
    let mut rewritten = Rewritten { source, out: String::new(), read: 0 };
    let mut branches = 0;
    for tag in tokens.split_inclusive(|(token, _)| matches!(token, Token::BlockEnd | Token::VariableEnd)) {
        let begins =
            |(token, _): &(Token<'_>, Span)| matches!(token, Token::BlockStart | Token::VariableStart);
        let Some(begin) = tag.iter().position(begins) else { continue };
        let tag = &tag[begin..];
        let line = tag[0].1.start_line;
        ensure!(
            tag.len() <= LONGEST_TAG,
            "the chat template has a tag of {} tokens in line {line}; the limit is {LONGEST_TAG}",
            tag.len()
        );
        if let Some((_, span)) = tag.iter().find(|(token, _)| matches!(token, Token::Mul)) {
            bail!("the chat template multiplies in line {}, which can grow without bound", span.start_line);
        }
        let [(Token::BlockStart, _), (Token::Ident(name), _), inside @ .., (Token::BlockEnd, end)] = tag
        else {
            continue;
        };
        match *name {
            "set" => rewritten.set(inside, line)?,
            "for" => rewritten.each(inside, line)?,
            "macro" => rewritten.arguments(inside, *end),
            "elif" => branches += 1,
            "call" | "with" => bail!("the chat template has `{name}` in line {line}, which is not read"),
            _ => {}
        }
    }
    ensure!(
        branches <= MOST_BRANCHES,
        "the chat template has {branches} branches; the limit is {MOST_BRANCHES}"
    );
    Ok(rewritten.finish())
}

/// A template of which the beginning is rewritten.
struct Rewritten<'s> {
    source: &'s str,
    out: String,
    /// Bytes of the source that are in `out`.
    read: usize,
}

/// What stands inside of a tag.
type Tokens<'t, 's> = &'t [(Token<'s>, Span)];

impl Rewritten<'_> {
    fn set(&mut self, inside: Tokens<'_, '_>, line: u16) -> Result<()> {
        let is = |wanted: fn(&Token<'_>) -> bool| inside.iter().position(|(token, _)| wanted(token));
        let Some(assign) = is(|token| matches!(token, Token::Assign)) else {
            let plain = is(|token| matches!(token, Token::Pipe)).is_none();
            ensure!(plain, "the chat template filters a block of `set` in line {line}, which is not read");
            return Ok(());
        };
        let field = inside[..assign].iter().any(|(token, _)| matches!(token, Token::Dot));
        self.wrap(if field { KEPT } else { NAMED }, &inside[assign + 1..]);
        Ok(())
    }

    fn each(&mut self, inside: Tokens<'_, '_>, line: u16) -> Result<()> {
        let mut depth = 0_i32;
        let mut words = inside.iter().enumerate().filter_map(|(at, (token, _))| {
            match token {
                Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => depth += 1,
                Token::ParenClose | Token::BracketClose | Token::BraceClose => depth -= 1,
                Token::Ident(word) if depth == 0 => return Some((at, *word)),
                _ => {}
            }
            None
        });
        let Some((begin, _)) = words.find(|(_, word)| *word == "in") else { return Ok(()) };
        let rest: Vec<_> = words.collect();
        let recursive = rest.last().is_some_and(|&(at, word)| word == "recursive" && at + 1 == inside.len());
        ensure!(!recursive, "the chat template has a recursive loop in line {line}, which is not read");
        let end = rest.iter().find(|(_, word)| *word == "if").map_or(inside.len(), |&(at, _)| at);
        self.wrap(KEPT, &inside[begin + 1..end]);
        Ok(())
    }

    /// Measures the arguments of a macro at its beginning, in tags that take white space away as its own
    /// does.
    fn arguments(&mut self, inside: Tokens<'_, '_>, end: Span) {
        let close = &self.source[end.start_offset as usize..end.end_offset as usize];
        let mut checks = String::new();
        for pair in inside.windows(2) {
            if let [(Token::ParenOpen | Token::Comma, _), (Token::Ident(name), _)] = pair {
                checks += &format!("{{% set {name} = {NAMED}({name}) {close}");
            }
        }
        self.copy(end.end_offset as usize);
        self.out += &checks;
    }

    /// Puts a call of `function` around these tokens.
    fn wrap(&mut self, function: &str, tokens: Tokens<'_, '_>) {
        let (Some((_, first)), Some((_, last))) = (tokens.first(), tokens.last()) else { return };
        self.copy(first.start_offset as usize);
        self.out += function;
        self.out += "((";
        self.copy(last.end_offset as usize);
        self.out += "))";
    }

    fn copy(&mut self, until: usize) {
        self.out += &self.source[self.read..until];
        self.read = until;
    }

    fn finish(mut self) -> String {
        self.copy(self.source.len());
        self.out
    }
}

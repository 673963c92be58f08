//! What was known before the last change, for the parts of a text that cannot be read while they are being written.

use std::collections::{HashMap, HashSet};

use super::Analysis;
use super::names::{Meaning, SiteId};
use crate::diag::Span;

/// Where places of an earlier text are in a later one that differs from it in one stretch.
struct Moved {
    /// The bytes before the change.
    prefix: u32,
    /// Where the earlier text goes on after the change.
    tail: u32,
    shift: i64,
}

impl Moved {
    fn new(earlier: &str, later: &str) -> Moved {
        let (a, b) = (earlier.as_bytes(), later.as_bytes());
        let prefix = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let (a_rest, b_rest) = (&a[prefix..], &b[prefix..]);
        let suffix = a_rest.iter().rev().zip(b_rest.iter().rev()).take_while(|(a, b)| a == b).count();
        let shift = b.len() as i64 - a.len() as i64;
        Moved { prefix: prefix as u32, tail: (a.len() - suffix) as u32, shift }
    }

    /// `None` for a place that the change touches.
    fn place(&self, start: u32, end: u32) -> Option<(u32, u32)> {
        let moved = |at: u32| u32::try_from(i64::from(at) + self.shift).ok();
        match () {
            () if end <= self.prefix => Some((start, end)),
            () if start >= self.tail => Some((moved(start)?, moved(end)?)),
            () => None,
        }
    }

    fn span(&self, span: Span) -> Option<Span> {
        let (start, end) = self.place(span.start, span.end)?;
        Some(Span { start, end, ..span })
    }
}

impl Analysis {
    /// Adds what `earlier` says of places about which nothing is known now.
    pub fn fill_from(&mut self, earlier: &Analysis) {
        let moved = Moved::new(&earlier.text, &self.text);
        self.facts.fill_from(&earlier.facts, |start, end| moved.place(start, end));
        let sites = self.fill_sites(earlier, &moved);
        let places = self.names.uses.iter().filter(|u| !matches!(u.meaning, Meaning::Unknown));
        let known: HashSet<(u32, u32)> = places.map(|u| (u.name.span.start, u.name.span.end)).collect();
        let mut added = Vec::new();
        for found in &earlier.names.uses {
            let Some(span) = moved.span(found.name.span).filter(|s| !known.contains(&(s.start, s.end))) else {
                continue;
            };
            if self.slice(span.start, span.end) != &*found.name.text {
                continue;
            }
            let mut filled = found.clone();
            filled.name.span = span;
            filled.whole = found.whole.and_then(|whole| moved.span(whole));
            filled.meaning = match &found.meaning {
                Meaning::Sites(ids) => {
                    let ids: Vec<SiteId> = ids.iter().filter_map(|id| sites.get(id).copied()).collect();
                    if ids.is_empty() {
                        continue;
                    }
                    Meaning::Sites(ids)
                }
                Meaning::Field(value) => match moved.span(*value) {
                    Some(value) => Meaning::Field(value),
                    None => continue,
                },
                other => other.clone(),
            };
            added.push(filled);
        }
        let replaced: HashSet<(u32, u32)> = added.iter().map(|u| (u.name.span.start, u.name.span.end)).collect();
        self.names.uses.retain(|u| !replaced.contains(&(u.name.span.start, u.name.span.end)));
        self.names.uses.extend(added);
    }

    /// The numbers that the earlier sites have now.
    fn fill_sites(&mut self, earlier: &Analysis, moved: &Moved) -> HashMap<SiteId, SiteId> {
        let mut numbers = HashMap::new();
        for (id, site) in earlier.names.sites.iter().enumerate() {
            let Some(span) = moved.span(site.name.span) else { continue };
            if let Some(now) = self.names.site_of(span) {
                numbers.insert(id, now);
                continue;
            }
            if self.slice(span.start, span.end) != &*site.name.text {
                continue;
            }
            let scope = self.names.scope_at(span.start);
            let same = self.names.sites.iter().find(|s| s.scope == scope && s.name.text == site.name.text);
            let mut filled = site.clone();
            // A number that no symbol of the walk has: those of the earlier text are counted on from here.
            filled.symbol = same.map_or(usize::MAX - site.symbol, |s| s.symbol);
            filled.scope = scope;
            filled.name.span = span;
            filled.whole = moved.span(site.whole).unwrap_or(span);
            numbers.insert(id, self.names.sites.len());
            self.names.by_place.insert((span.start, span.end), self.names.sites.len());
            self.names.sites.push(filled);
        }
        numbers
    }
}

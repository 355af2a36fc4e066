//! Changed rows of access tables, batch by batch: which of them concern the caller.

use super::{BATCH, BATCH_BYTES};
use crate::log::change::Image;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::sight::ends::Ends;
use crate::sight::policy::Judge;

/// Changed rows of an access table.
#[derive(Default)]
pub struct AccessBatch {
    pub rows: Vec<AccessRow>,
    images: usize,
    bytes: usize,
}

impl AccessBatch {
    /// Adds what was read of a row since it was added last.
    pub fn add(&mut self, row: &mut AccessRow) {
        let images = std::mem::take(&mut row.images);
        self.bytes += row.id.len() + images.iter().map(Image::size).sum::<usize>();
        self.images += images.len();
        match self.rows.last_mut().filter(|last| last.id == row.id && last.life == row.life) {
            Some(last) => {
                memory::extend(&mut last.images, images);
                let added = last.stamps.last().copied();
                memory::extend(&mut last.stamps, row.stamps.iter().copied().filter(|stamp| Some(*stamp) > added));
                last.deleted = row.deleted;
            }
            None => self.rows.push(AccessRow { images, ..row.clone() }),
        }
        // What led to the state that comes next counts with that one, too.
        row.stamps.drain(..row.stamps.len().saturating_sub(1));
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() + self.images >= BATCH || self.bytes >= BATCH_BYTES
    }
}

/// What happened to one row of an access table, as far as it was read.
#[derive(Default, Clone)]
pub struct AccessRow {
    pub id: String,
    /// So often the key had come again: it is another row each time.
    pub life: usize,
    pub images: Vec<Image>,
    /// Of the changes that count, in order: those since it was added last, and the one before.
    pub stamps: Vec<i64>,
    /// It was deleted with this stamp.
    pub deleted: Option<i64>,
}

impl AccessRow {
    /// Would its stamps add anything to these?
    pub fn adds_to(&self, ends: &Ends, own: Option<i64>) -> bool {
        self.stamps.iter().any(|stamp| !ends.knows(*stamp, own))
    }

    pub fn add_to(&self, ends: &mut Ends, own: Option<i64>) {
        self.stamps.iter().for_each(|stamp| ends.add(*stamp, own));
    }
}

/// Adds the stamps of those of these rows that concern the caller, as they were or as they are, by one of these judges. A row does where that cannot be told.
/// Of a row with nothing to add nothing is asked: what changes thousands of rows at once has one stamp.
pub(super) fn add_concerning(judges: &[Judge], rows: &[AccessRow], own: Option<i64>, ends: &mut Ends) -> Result<()> {
    let mut looks = LOOKS;
    for judge in judges {
        let open: Vec<&AccessRow> = rows.iter().filter(|row| row.adds_to(ends, own)).gather();
        let images: Vec<Image> = open.iter().flat_map(|row| row.images.iter().cloned()).gather();
        let Some(seen) = judge.of(&images)? else {
            open.iter().for_each(|row| row.add_to(ends, own));
            return Ok(());
        };
        let mut seen = seen.into_iter();
        for row in &open {
            if seen.by_ref().take(row.images.len()).fold(false, |any, seen| any | seen) {
                row.add_to(ends, own);
            }
        }
        let standing: Vec<&AccessRow> = open.into_iter().filter(|row| row.deleted.is_none()).gather();
        add_standing(judge, &standing, own, ends, &mut looks)?;
    }
    Ok(())
}

/// So often it is asked which of a batch's rows concern the caller as they stand now, where that cannot be told of all at once. Then all that are left do: more
/// changes count than must, which costs time.
const LOOKS: usize = 100;

/// Adds the stamps of those rows that satisfy as they stand now. Where that cannot be told, halves of halves find the rows that it is so for.
fn add_standing(
    judge: &Judge,
    rows: &[&AccessRow],
    own: Option<i64>,
    ends: &mut Ends,
    looks: &mut usize,
) -> Result<()> {
    let open: Vec<&AccessRow> = rows.iter().copied().filter(|row| row.adds_to(ends, own)).gather();
    if open.is_empty() {
        return Ok(());
    }
    if *looks == 0 {
        open.iter().for_each(|row| row.add_to(ends, own));
        return Ok(());
    }
    *looks -= 1;
    let ids: Vec<&str> = open.iter().map(|row| &*row.id).gather();
    if let Some(satisfy) = judge.of_present(&ids)? {
        open.iter().zip(satisfy).filter(|(_, satisfies)| *satisfies).for_each(|(row, _)| row.add_to(ends, own));
        return Ok(());
    }
    if let [row] = open[..] {
        row.add_to(ends, own);
        return Ok(());
    }
    let (left, right) = open.split_at(open.len() / 2);
    add_standing(judge, left, own, ends, looks)?;
    add_standing(judge, right, own, ends, looks)
}

//! Changed rows of access tables, batch by batch: which of them concern the caller.

use super::{BATCH, BATCH_BYTES};
use crate::log::change::Image;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::sight::policy::Judge;

/// Changed rows of an access table.
#[derive(Default)]
pub struct AccessBatch {
    pub rows: Vec<AccessRow>,
    images: usize,
    bytes: usize,
}

impl AccessBatch {
    pub fn add(&mut self, row: &mut AccessRow) {
        let images = std::mem::take(&mut row.images);
        self.bytes += row.id.len() + images.iter().map(Image::size).sum::<usize>();
        self.images += images.len();
        match self.rows.last_mut().filter(|last| last.id == row.id && last.life == row.life) {
            Some(last) => {
                memory::extend(&mut last.images, images);
                last.stamps.clone_from(&row.stamps);
                last.deleted = row.deleted;
            }
            // What led to the state that comes now counts, too.
            None => self.rows.push(AccessRow { images, ..row.clone() }),
        }
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
    /// Of the changes that count.
    pub stamps: Vec<i64>,
    /// It was deleted with this stamp.
    pub deleted: Option<i64>,
}

/// For each of these rows: does it concern the caller, as it was or as it is, by one of these judges? It does where that cannot be told.
pub fn concerned(judges: &[Judge], rows: &[AccessRow]) -> Result<Vec<bool>> {
    let mut concerned = memory::filled(false, rows.len());
    let mut looks = LOOKS;
    let images: Vec<Image> = rows.iter().flat_map(|row| row.images.iter().cloned()).gather();
    for judge in judges {
        let Some(seen) = judge.of(&images)? else { return Ok(memory::filled(true, rows.len())) };
        let mut seen = seen.into_iter();
        for (row, concerned) in rows.iter().zip(&mut concerned) {
            *concerned |= seen.by_ref().take(row.images.len()).fold(false, |any, seen| any | seen);
        }
        let open: Vec<usize> = (0..rows.len()).filter(|&at| !concerned[at] && rows[at].deleted.is_none()).gather();
        find_present(judge, rows, &open, &mut concerned, &mut looks)?;
    }
    Ok(concerned)
}

/// So often it is asked which of a batch's rows concern the caller as they stand now. Then all that are left do: more changes count
/// than must, which costs time.
const LOOKS: usize = 100;

/// Marks those of the open rows that satisfy as they stand now, which most often none does.
fn find_present(
    judge: &Judge,
    rows: &[AccessRow],
    open: &[usize],
    concerned: &mut [bool],
    looks: &mut usize,
) -> Result<()> {
    let ids: Vec<&str> = open.iter().map(|&at| &*rows[at].id).gather();
    if ids.is_empty() {
        return Ok(());
    }
    if *looks == 0 {
        open.iter().for_each(|&at| concerned[at] = true);
        return Ok(());
    }
    *looks -= 1;
    if judge.any_present(&ids)? == Some(false) {
        return Ok(());
    }
    if let [at] = open[..] {
        concerned[at] = true;
        return Ok(());
    }
    let (left, right) = open.split_at(open.len() / 2);
    find_present(judge, rows, left, concerned, looks)?;
    find_present(judge, rows, right, concerned, looks)
}

//! What a disk holds after a loss of power: all that a sync has confirmed, and of the rest whatever part it likes.

use std::collections::BTreeMap;
use std::path::Path;

use crate::calls::{Done, File};

/// The files of one database, as the calls on them tell.
#[derive(Clone)]
pub(crate) struct Disk {
    files: Vec<Vec<(Change, State)>>,
    /// Which file a name stands for, now and after a loss of power.
    named: BTreeMap<File, usize>,
    lasting: BTreeMap<File, usize>,
}

#[derive(Clone)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate { length: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    /// A sync has confirmed it.
    Lasting,
    /// A sync that failed has given it up: it may be lost whatever later syncs say.
    GivenUp,
}

/// What a loss of power takes of what no sync has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Nothing,
    Everything,
    /// All but what concerns this file.
    AllBut(File),
    /// Any sector of any write, by this seed.
    Sectors(u64),
}

pub(crate) const LOSSES: [Loss; 6] = [
    Loss::Nothing,
    Loss::Everything,
    Loss::AllBut(File::Database),
    Loss::AllBut(File::Log),
    Loss::Sectors(1),
    Loss::Sectors(2),
];

const SECTOR: u64 = 512;

impl Disk {
    /// With a database that was just made: it is empty, and no sync has confirmed its name.
    pub(crate) fn new() -> Self {
        let named = BTreeMap::from([(File::Database, 0)]);
        Self { files: vec![Vec::new()], named, lasting: BTreeMap::new() }
    }

    /// With these files, which have lain there for long.
    pub(crate) fn holding(files: [(File, Vec<u8>); 2]) -> Self {
        let mut disk = Self { files: Vec::new(), named: BTreeMap::new(), lasting: BTreeMap::new() };
        for (file, bytes) in files {
            disk.named.insert(file, disk.files.len());
            disk.files.push(vec![(Change::Write { offset: 0, bytes }, State::Lasting)]);
        }
        disk.lasting = disk.named.clone();
        disk
    }

    fn changes(&mut self, file: File) -> &mut Vec<(Change, State)> {
        let next = self.files.len();
        let number = *self.named.entry(file).or_insert(next);
        if number == next {
            self.files.push(Vec::new());
        }
        &mut self.files[number]
    }

    /// Takes in what was done.
    pub(crate) fn take(&mut self, done: &Done) {
        match done {
            // It is made anew after every loss of power.
            Done::Write { file: File::Index, .. }
            | Done::Truncate { file: File::Index, .. }
            | Done::Sync { file: File::Index, .. }
            | Done::Unlink { file: File::Index }
            | Done::Milestone(_) => {}
            Done::Write { file, offset, bytes } => {
                let change = Change::Write { offset: *offset, bytes: bytes.clone() };
                self.changes(*file).push((change, State::Pending));
            }
            Done::Truncate { file, length } => {
                self.changes(*file).push((Change::Truncate { length: *length }, State::Pending));
            }
            Done::Unlink { file } => drop(self.named.remove(file)),
            Done::Sync { file: File::Folder, succeeded: true } => self.lasting = self.named.clone(),
            Done::Sync { file: File::Folder, succeeded: false } => {}
            Done::Sync { file, succeeded } => {
                for (_, state) in self.changes(*file) {
                    if *state == State::Pending {
                        *state = if *succeeded { State::Lasting } else { State::GivenUp };
                    }
                }
            }
        }
    }

    /// Whether a loss of power could take anything.
    pub(crate) fn is_in_suspense(&self) -> bool {
        let open = |(_, state): &(Change, State)| *state != State::Lasting;
        self.named != self.lasting || self.named.values().any(|number| self.files[*number].iter().any(open))
    }

    /// Puts into a folder what is found after such a loss.
    pub(crate) fn restore(&self, loss: Loss, folder: &Path) {
        let mut random = Random(match loss {
            Loss::Sectors(seed) => seed,
            _ => 0,
        });
        let names = match loss {
            Loss::Nothing => &self.named,
            Loss::Everything => &self.lasting,
            Loss::AllBut(_) => &self.named,
            Loss::Sectors(_) if random.toss() => &self.named,
            Loss::Sectors(_) => &self.lasting,
        };
        for (file, number) in names {
            let mut bytes = Vec::new();
            for (change, state) in &self.files[*number] {
                let stays = |random: &mut Random| match loss {
                    _ if *state == State::Lasting => true,
                    Loss::Nothing => true,
                    Loss::Everything => false,
                    Loss::AllBut(spared) => *file == spared,
                    Loss::Sectors(_) => random.toss(),
                };
                match change {
                    Change::Truncate { length } if stays(&mut random) => bytes.resize(*length as usize, 0),
                    Change::Truncate { .. } => {}
                    Change::Write { offset, bytes: written } if *state == State::Lasting => {
                        put(&mut bytes, *offset as usize, written);
                    }
                    Change::Write { offset, bytes: written } => {
                        let mut at = 0;
                        while at < written.len() {
                            let place = offset + at as u64;
                            let length = ((SECTOR - place % SECTOR) as usize).min(written.len() - at);
                            if stays(&mut random) {
                                put(&mut bytes, place as usize, &written[at..at + length]);
                            }
                            at += length;
                        }
                    }
                }
            }
            let name = match file {
                File::Database => "keys.db",
                File::Log => "keys.db-wal",
                File::Journal => "keys.db-journal",
                File::Index | File::Folder => continue,
            };
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

fn put(bytes: &mut Vec<u8>, place: usize, written: &[u8]) {
    let end = place + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[place..end].copy_from_slice(written);
}

struct Random(u64);

impl Random {
    fn toss(&mut self) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 63 == 1
    }
}

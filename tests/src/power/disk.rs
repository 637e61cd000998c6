//! A disk as the rules of POSIX let it be, and no better: what was not synced may be there after a
//! power cut or not, each piece of it by itself, whatever its order.
//!
//! A file's sync makes its bytes and its length last, but not its name: that takes the sync of the
//! folder that it is in. Bytes that a cut has left between others are zeros or anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::calls::What;
use crate::dice::Dice;

/// A file or folder, as a name refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    /// By its place in [`Disk::files`].
    File(usize),
}

/// See the module. It borrows the bytes that were written.
#[derive(Debug, Default)]
pub struct Disk<'c> {
    files: Vec<File<'c>>,
    names: BTreeMap<PathBuf, Node>,
    /// The names that last.
    synced_names: BTreeMap<PathBuf, Node>,
    unsynced_names: Vec<(usize, Naming)>,
    /// How many calls were done.
    calls: usize,
}

#[derive(Debug, Default)]
struct File<'c> {
    synced: Vec<u8>,
    unsynced: Vec<(usize, Change<'c>)>,
}

#[derive(Clone, Copy, Debug)]
enum Change<'c> {
    Write(usize, &'c [u8]),
    Length(usize),
}

/// A change of names. Each is of one folder.
#[derive(Debug)]
enum Naming {
    Made(PathBuf, Node),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf, Node),
}

/// What a cut does to what is not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: the process alone ended, in the midst of its last call.
    Killed,
    /// All of it is lost.
    All,
    /// Each change is there whole or not at all.
    Changes,
    /// Each sector of each write is there or not.
    Sectors,
    /// All up to a change, which is torn; what came after it is lost.
    After,
}

/// What becomes of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Torn,
    Lost,
}

/// A cut with its chances.
struct Cut<'d> {
    loss: Loss,
    /// Of [`Loss::Killed`] and [`Loss::After`]: the change that is torn.
    torn: usize,
    sector_bytes: usize,
    /// Between what was kept there are zeros, or else anything.
    zeros: bool,
    dice: &'d mut Dice,
}

impl<'c> Disk<'c> {
    /// Does a call.
    pub fn apply(&mut self, call: &'c What) {
        self.calls += 1;
        match call {
            What::Make(path) if self.names.contains_key(path) => {}
            What::Make(path) => {
                self.files.push(File::default());
                self.name(Naming::Made(path.clone(), Node::File(self.files.len() - 1)));
            }
            What::Folder(path) => self.name(Naming::Made(path.clone(), Node::Folder)),
            What::Write { path, at, bytes } => self.change(path, Change::Write(*at, bytes)),
            What::Length { path, bytes } => self.change(path, Change::Length(*bytes)),
            What::Sync(path) => self.sync(path),
            What::Rename { from, to } => {
                assert_eq!(from.parent(), to.parent(), "moving between folders is not understood");
                let node = self.names[from];
                self.name(Naming::Renamed(from.clone(), to.clone(), node));
            }
            What::Remove(path) => self.name(Naming::Removed(path.clone())),
        }
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced_names.push((self.calls, naming));
    }

    fn change(&mut self, path: &Path, change: Change<'c>) {
        let Some(Node::File(file)) = self.names.get(path) else {
            panic!("{} was never made", path.display());
        };
        self.files[*file].unsynced.push((self.calls, change));
    }

    fn sync(&mut self, path: &Path) {
        if let Some(Node::File(file)) = self.names.get(path) {
            let File { synced, unsynced } = &mut self.files[*file];
            unsynced.drain(..).for_each(|(_, change)| change.apply(synced));
        } else {
            // A folder, perhaps one that was there before.
            let (these, others) = std::mem::take(&mut self.unsynced_names)
                .into_iter()
                .partition(|(_, naming)| naming.folder() == Some(path));
            self.unsynced_names = others;
            for (_, naming) in Vec::from_iter::<Vec<_>>(these) {
                naming.apply(&mut self.synced_names);
            }
        }
    }

    /// The files that there are after a cut now, by their paths. Those are not found whose folders
    /// are not there.
    pub fn cut(&self, loss: Loss, dice: &mut Dice) -> BTreeMap<PathBuf, Vec<u8>> {
        let torn = match loss {
            Loss::Killed => self.calls,
            _ => self.some_change(dice),
        };
        let sector_bytes = *dice.pick(&[512, 4096]);
        let zeros = dice.roll(2) == 0;
        let mut cut = Cut { loss, torn, sector_bytes, zeros, dice };
        let mut names = self.synced_names.clone();
        for (order, naming) in &self.unsynced_names {
            if cut.fate(*order) == Fate::Kept {
                naming.apply(&mut names);
            }
        }
        let made_folders: Vec<&PathBuf> = self.names.keys().collect();
        let found = |path: &Path| {
            let folders = path.ancestors().skip(1);
            folders
                .filter(|folder| made_folders.iter().any(|made| *made == folder))
                .all(|folder| names.contains_key(folder))
        };
        let mut files = BTreeMap::new();
        for (path, node) in &names {
            if let Node::File(file) = node
                && found(path)
            {
                files.insert(path.clone(), cut.remains(&self.files[*file]));
            }
        }
        files
    }

    /// The place of any change that is not synced, or of none.
    fn some_change(&self, dice: &mut Dice) -> usize {
        let names = self.unsynced_names.iter().map(|(order, _)| *order);
        let changes = self.files.iter().flat_map(|file| &file.unsynced).map(|(order, _)| *order);
        let all: Vec<usize> = names.chain(changes).collect();
        if all.is_empty() { 0 } else { *dice.pick(&all) }
    }
}

impl Cut<'_> {
    fn fate(&mut self, order: usize) -> Fate {
        match self.loss {
            Loss::All => Fate::Lost,
            Loss::Changes if self.dice.roll(2) == 0 => Fate::Kept,
            Loss::Changes => Fate::Lost,
            Loss::Sectors => *self.dice.pick(&[Fate::Kept, Fate::Torn, Fate::Torn, Fate::Lost]),
            Loss::Killed | Loss::After => match order.cmp(&self.torn) {
                std::cmp::Ordering::Less => Fate::Kept,
                std::cmp::Ordering::Equal => Fate::Torn,
                std::cmp::Ordering::Greater => Fate::Lost,
            },
        }
    }

    fn remains(&mut self, file: &File<'_>) -> Vec<u8> {
        let mut bytes = file.synced.clone();
        for (order, change) in &file.unsynced {
            match (self.fate(*order), change) {
                (Fate::Kept, change) => change.apply(&mut bytes),
                (Fate::Torn, Change::Write(at, written)) => self.tear(&mut bytes, *at, written),
                // A length is changed or not.
                (Fate::Torn, Change::Length(_)) | (Fate::Lost, _) => {}
            }
        }
        bytes
    }

    /// The length is as if all had been written; each sector is there or not.
    fn tear(&mut self, bytes: &mut Vec<u8>, at: usize, written: &[u8]) {
        let end = at + written.len();
        while bytes.len() < end {
            bytes.push(if self.zeros { 0 } else { self.dice.roll(256) as u8 });
        }
        let mut from = at;
        while from < end {
            let to = end.min((from / self.sector_bytes + 1) * self.sector_bytes);
            if self.dice.roll(2) == 0 {
                bytes[from..to].copy_from_slice(&written[from - at..to - at]);
            }
            from = to;
        }
    }
}

impl Change<'_> {
    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(at, written) => {
                let end = at + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[at..end].copy_from_slice(written);
            }
            Change::Length(length) => bytes.resize(length, 0),
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Naming::Made(path, node) => drop(names.insert(path.clone(), *node)),
            Naming::Removed(path) => drop(names.remove(path)),
            Naming::Renamed(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }

    fn folder(&self) -> Option<&Path> {
        match self {
            Naming::Made(path, _) | Naming::Removed(path) => path.parent(),
            Naming::Renamed(from, ..) => from.parent(),
        }
    }
}

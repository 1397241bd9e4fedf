use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::super::reports::{ATTEMPTS, TeeKind, TeeReport};
use super::*;

/// configfs-tsm in memory, with a guest whose platform is SNP.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    entries: BTreeMap<String, Attributes>,
    /// No provider is registered.
    absent: bool,
    /// How often another writer still comes between, and how.
    intruder: Option<(u32, Intrusion)>,
    privlevels: Vec<u32>,
}

#[derive(Clone, Copy)]
enum Intrusion {
    /// Writes `inblob` after the report was made.
    After,
    /// Writes `inblob` before it is made.
    Before,
    /// The kernel notices by itself.
    Noticed,
}

#[derive(Default)]
struct Attributes {
    inblob: Vec<u8>,
    generation: u64,
}

fn errno<T>(errno: Errno) -> io::Result<T> {
    Err(errno.into())
}

impl Entries for Memory {
    fn make(&self, entry: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.absent {
            return errno(Errno::NXIO);
        }
        if state.entries.contains_key(entry) {
            return errno(Errno::EXIST);
        }
        state.entries.insert(entry.to_owned(), Attributes::default());
        Ok(())
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        self.0.lock().unwrap().entries.remove(entry).map(drop).ok_or_else(|| Errno::NOENT.into())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().entries.keys().cloned().collect())
    }

    fn write(&self, entry: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if attribute == "privlevel" {
            state.privlevels.push(String::from_utf8_lossy(bytes).parse().unwrap());
        }
        let Some(attributes) = state.entries.get_mut(entry) else { return errno(Errno::NOENT) };
        match attribute {
            "inblob" => attributes.inblob = bytes.to_vec(),
            "privlevel" | "service_provider" => {}
            _ => return errno(Errno::ACCESS),
        }
        attributes.generation += 1;
        Ok(())
    }

    fn read(&self, entry: &str, attribute: &str, _cap_bytes: usize) -> io::Result<Vec<u8>> {
        let mut state = self.0.lock().unwrap();
        let intrusion = match (&mut state.intruder, attribute) {
            (Some((left, how)), "outblob") if *left > 0 => {
                *left -= 1;
                Some(*how)
            }
            _ => None,
        };
        let Some(attributes) = state.entries.get_mut(entry) else { return errno(Errno::NOENT) };
        let mut report = vec![0; 1184];
        match intrusion {
            None | Some(Intrusion::After) if attribute == "outblob" => {
                report[0x50..0x90].copy_from_slice(&attributes.inblob);
            }
            Some(Intrusion::Noticed) => return errno(Errno::WOULDBLOCK),
            None | Some(Intrusion::Before | Intrusion::After) => {}
        }
        attributes.generation += u64::from(matches!(intrusion, Some(Intrusion::After)));
        match attribute {
            "provider" => Ok(b"sev_guest\n".to_vec()),
            "generation" => Ok(format!("{}\n", attributes.generation).into_bytes()),
            "privlevel_floor" => Ok(b"1\n".to_vec()),
            "outblob" => Ok(report),
            "auxblob" => Ok(vec![1; 4096]),
            "manifestblob" => Ok(b"services".to_vec()),
            _ => errno(Errno::NOENT),
        }
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

fn configfs(memory: &Memory, privlevel: Option<u32>, service: Option<&str>) -> Configfs<Memory> {
    let service_provider = service.map(str::to_owned);
    Configfs { directory: memory.clone(), privlevel, service_provider, cleared: false, standing: None }
}

fn obtain(configfs: &mut Configfs<Memory>) -> Result<TeeReport, TeeError> {
    TeeReport::obtain(TeeKind::SevSnp, configfs, &[7; 64])
}

#[test]
fn a_report_is_made_in_an_entry_of_its_own_that_is_removed() {
    let memory = Memory::default();
    let report = obtain(&mut configfs(&memory, None, None)).unwrap();
    assert_eq!((report.report().len(), report.certificates().map(<[u8]>::len)), (1184, Some(4096)));
    assert_eq!(report.manifest(), None, "no service was asked for");
    let state = memory.0.lock().unwrap();
    assert!(state.entries.is_empty() && state.privlevels.is_empty());
}

#[test]
fn the_privilege_level_and_the_service_are_those_configured() {
    let memory = Memory::default();
    let report = obtain(&mut configfs(&memory, Some(2), Some("svsm"))).unwrap();
    assert_eq!(report.manifest(), Some(b"services".as_slice()));
    assert_eq!(memory.0.lock().unwrap().privlevels, [2]);
    let below = obtain(&mut configfs(&memory, Some(0), None));
    assert_eq!(below, Err(TeeError::BelowFloor { got: 0, floor: 1 }));
    assert!(memory.0.lock().unwrap().entries.is_empty());
}

#[test]
fn another_writer_is_noticed_however_it_comes_between() {
    for how in [Intrusion::Before, Intrusion::After, Intrusion::Noticed] {
        let memory = Memory::default();
        memory.0.lock().unwrap().intruder = Some((ATTEMPTS - 1, how));
        obtain(&mut configfs(&memory, None, None)).unwrap();
        memory.0.lock().unwrap().intruder = Some((ATTEMPTS, how));
        assert_eq!(obtain(&mut configfs(&memory, None, None)), Err(TeeError::Unstable { attempts: ATTEMPTS }));
        assert!(memory.0.lock().unwrap().entries.is_empty());
    }
}

#[test]
fn leftovers_of_processes_that_are_gone_are_removed_and_nothing_else() {
    let memory = Memory::default();
    let ours = format!("{PREFIX}{}-x", std::process::id());
    // Process ids end at 2^22.
    let names = [ours.as_str(), "attestd-4194305-0", "attestd-4194305-77", "attestd-x-1", "someone-4194305-1"];
    for name in names {
        memory.make(name).unwrap();
    }
    let mut watched = configfs(&memory, None, None);
    watched.probe().unwrap();
    assert_eq!(memory.names().unwrap().len(), 4, "the watch keeps one");
    drop(watched);
    let mut left = memory.names().unwrap();
    left.sort_unstable();
    assert_eq!(left, [ours.as_str(), "attestd-x-1", "someone-4194305-1"]);
}

#[test]
fn what_another_program_does_to_the_standing_request_is_noticed_once() {
    let memory = Memory::default();
    let mut configfs = configfs(&memory, None, None);
    configfs.probe().unwrap();
    configfs.report(&[7; 64]).unwrap();
    configfs.probe().unwrap(); // reports of ours are made in entries of their own
    let standing = memory.names().unwrap().pop().unwrap();
    memory.write(&standing, "inblob", &[9; 64]).unwrap();
    for disturb in [None, Some(())] {
        if disturb.is_some() {
            memory.remove(&standing).unwrap();
        }
        let error = configfs.probe().unwrap_err();
        assert_eq!((error.code(), error.is_final()), ("fault.tee_disturbed", false), "{error}");
        configfs.probe().unwrap();
        assert_eq!(memory.names().unwrap().len(), 1);
    }
    drop(configfs);
    assert!(memory.names().unwrap().is_empty());
}

#[test]
fn a_provider_that_is_gone_is_a_lost_device() {
    let memory = Memory::default();
    let mut configfs = configfs(&memory, None, None);
    configfs.probe().unwrap();
    memory.0.lock().unwrap().absent = true;
    for outcome in [configfs.probe(), configfs.report(&[7; 64]).map(drop)] {
        let error = outcome.unwrap_err();
        assert!(error.is_final() && error.code() == "fault.tee_lost", "{error}");
    }
}

#[test]
fn a_directory_that_is_none_of_configfs_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let mut missing = Configfs::new(folder.path().join("none"), None, None);
    assert_eq!(missing.probe().unwrap_err().code(), "fault.tee_lost");
    let mut plain = Configfs::new(folder.path().to_owned(), None, None);
    assert_eq!(plain.report(&[7; 64]).unwrap_err().code(), "fault.tee_lost");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "an entry was left");
}

use super::*;

const SETTLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// A night without a disk: files with sizes, and a clock that is set.
struct Disk {
    start: Instant,
    epoch: SystemTime,
    at: f64,
    files: BTreeMap<PathBuf, (u64, f64)>,
    arrivals: Arrivals,
}

impl Disk {
    fn new() -> Disk {
        Disk {
            start: Instant::now(),
            epoch: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            at: 0.0,
            files: BTreeMap::new(),
            arrivals: Arrivals::new(SETTLE, PATIENCE),
        }
    }

    /// Writes a file of so many bytes, of 100, at a time.
    fn put(&mut self, name: &str, bytes: u64, at: f64) {
        self.files.insert(name.into(), (bytes, at));
    }

    fn clock(&self, at: f64) -> SystemTime {
        self.epoch + Duration::from_secs_f64(10_000.0 + at)
    }

    fn look(&mut self, at: f64) -> News {
        self.at = at;
        let stamp =
            |(bytes, at): &(u64, f64)| Stamp { bytes: *bytes, changed: Some(self.clock(*at)), inode: 7 };
        let listing: Vec<_> = self.files.iter().map(|(p, f)| (p.clone(), stamp(f))).collect();
        let (now, clock) = (self.start + Duration::from_secs_f64(at), self.clock(at));
        let files = &self.files;
        self.arrivals.look(now, clock, &listing, |path| match files[path].0 {
            100 => Whole::Yes,
            0 => Whole::Unknown("is empty".into()),
            n => Whole::Lacks(100 - n),
        })
    }
}

fn arrived(news: &News) -> Vec<&str> {
    assert!(news.named.is_empty(), "{news:?}");
    news.arrived.iter().filter_map(|p| p.to_str()).collect()
}

#[test]
fn what_grows_is_waited_for() {
    let mut disk = Disk::new();
    disk.look(0.0);
    for (at, bytes) in [(1.0, 10), (2.0, 50), (3.0, 90), (9.0, 90)] {
        disk.put("a", bytes, f64::min(at, 3.0));
        assert_eq!(disk.look(at), News::default(), "{at}");
    }
    assert_eq!(disk.arrivals.arriving().collect::<Vec<_>>(), [(&PathBuf::from("a"), Some(10))]);
    // Whole, but so young that more may come.
    disk.put("a", 100, 10.0);
    assert_eq!(disk.look(10.5), News::default());
    assert_eq!(disk.look(11.5), News::default());
    assert_eq!(arrived(&disk.look(12.5)), ["a"]);
    assert_eq!(disk.look(13.5), News::default());
    assert_eq!(disk.arrivals.files().count(), 1);
    assert_eq!(disk.arrivals.completed(Path::new("a")), Some(disk.clock(10.0)));
}

#[test]
fn what_was_there_before_is_taken_at_once() {
    let mut disk = Disk::new();
    disk.put("old", 100, -60.0);
    disk.put("half", 50, -60.0);
    disk.put("young", 100, -1.0);
    assert_eq!(arrived(&disk.look(0.0)), ["old"]);
    assert_eq!(arrived(&disk.look(2.0)), ["young"]);
    // Of what was there nobody knows when it came.
    assert_eq!(disk.arrivals.completed(Path::new("old")), None);
    // An old time, from a copy that keeps times, is no sign later on.
    disk.put("kept", 100, -3600.0);
    assert_eq!(disk.look(3.0), News::default());
    assert_eq!(arrived(&disk.look(5.0)), ["kept"]);
    // It came between the looks at 2 s and 3 s, whatever its disk says.
    assert_eq!(disk.arrivals.completed(Path::new("kept")), Some(disk.clock(2.0)));
}

#[test]
fn what_is_never_whole_is_named_once() {
    let mut disk = Disk::new();
    disk.look(0.0);
    disk.put("cut", 60, 1.0);
    disk.put("empty", 0, 1.0);
    disk.look(1.0);
    assert_eq!(disk.look(30.0), News::default());
    let named = disk.look(31.5).named;
    assert_eq!(named.len(), 2);
    assert!(named[0].1.contains("cut is 40 bytes short") && named[0].1.contains("30 s"), "{named:?}");
    assert!(named[1].1.starts_with("is empty; nothing was added"), "{named:?}");
    assert_eq!(disk.look(99.0), News::default());
    // Sent once more, it is taken like any other.
    disk.put("cut", 100, 100.0);
    disk.look(100.0);
    assert_eq!(arrived(&disk.look(102.0)), ["cut"]);
}

#[test]
fn replaced_removed_and_returned() {
    let mut disk = Disk::new();
    disk.put("a", 100, -60.0);
    disk.put("b", 100, -60.0);
    assert_eq!(arrived(&disk.look(0.0)), ["a", "b"]);
    // Replaced: gone while it is written, then there again.
    disk.put("a", 70, 5.0);
    let news = disk.look(5.0);
    assert_eq!(news, News { gone: vec!["a".into()], ..News::default() });
    assert!(news.is_other());
    assert_eq!(disk.look(6.0), News::default());
    disk.put("a", 100, 7.0);
    disk.look(7.0);
    assert_eq!(arrived(&disk.look(9.0)), ["a"]);
    // Touched within one look, so that it was never seen cut: the new one counts, later.
    disk.put("b", 100, 10.0);
    assert_eq!(disk.look(10.0).gone, [PathBuf::from("b")]);
    assert_eq!(arrived(&disk.look(12.0)), ["b"]);
    let held = std::mem::take(&mut disk.files);
    assert_eq!(disk.look(20.0).gone.len(), 2);
    disk.files = held;
    assert_eq!(disk.look(21.0), News::default());
    assert_eq!(arrived(&disk.look(23.0)), ["a", "b"]);
}

#[test]
fn what_its_writer_has_closed_is_taken_at_once() {
    let mut disk = Disk::new();
    disk.look(0.0);
    disk.put("a", 100, 1.0);
    disk.put("half", 50, 1.0);
    disk.arrivals.closed("a".into());
    disk.arrivals.closed("half".into());
    disk.arrivals.closed("gone again".into());
    assert_eq!(arrived(&disk.look(1.1)), ["a"]);
    // Closed and not whole: like any other.
    disk.put("half", 100, 2.0);
    assert_eq!(disk.look(2.0), News::default());
    assert_eq!(arrived(&disk.look(4.0)), ["half"]);
    // It is written again: what was said of its last content does not count.
    disk.put("a", 100, 5.0);
    assert_eq!(disk.look(5.0).gone, [PathBuf::from("a")]);
    disk.arrivals.closed("a".into());
    // Who closes a file again and again is not believed a second time.
    assert_eq!(disk.look(5.1), News::default());
    assert_eq!(arrived(&disk.look(7.0)), ["a"]);
}

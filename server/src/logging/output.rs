//! Where lines go: standard streams, files with or without rotation, the journal of systemd.
//!
//! Shared by all threads behind one mutex per output, held for one write. Invariant: a line goes
//! to each output once and whole. A line that cannot be written is lost: the log must not end a
//! server. Limits: the size, number and age of rotated files, by flag.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::line::timestamp;
use crate::config::{LogConfig, LogOutput, LogRotation};

const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// All outputs; what a line is written to.
#[derive(Clone, Debug)]
pub struct Outputs(Arc<Vec<Output>>);

#[derive(Debug)]
enum Output {
    Stderr,
    Stdout,
    File(Mutex<LogFile>),
    Journal(UnixDatagram),
}

impl Outputs {
    /// Opens the files.
    ///
    /// # Errors
    /// The text names the output that cannot be opened.
    pub fn open(config: &LogConfig) -> Result<Outputs, String> {
        let discards = config
            .outputs
            .contains(&LogOutput::File(PathBuf::from("/dev/null")));
        let mut outputs = Vec::new();
        for output in config.outputs.iter().filter(|_| !discards) {
            outputs.push(match output {
                LogOutput::Stderr => Output::Stderr,
                LogOutput::Stdout => Output::Stdout,
                LogOutput::Journal => Output::Journal(
                    connect_journal().map_err(|error| format!("{JOURNAL_SOCKET}: {error}"))?,
                ),
                LogOutput::File(path) => Output::File(Mutex::new(
                    LogFile::open(path, config.rotation)
                        .map_err(|error| format!("couldn't open sink {path:?}: {error}"))?,
                )),
            });
        }
        Ok(Outputs(Arc::new(outputs)))
    }
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter {
            outputs: self.clone(),
            priority: '6',
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter {
        let priority = match *metadata.level() {
            Level::ERROR if metadata.target() == super::FATAL => '2',
            Level::ERROR => '3',
            Level::WARN => '4',
            Level::INFO => '6',
            Level::DEBUG | Level::TRACE => '7',
        };
        LineWriter {
            outputs: self.clone(),
            priority,
        }
    }
}

/// Writes one line to all outputs.
#[derive(Debug)]
pub struct LineWriter {
    outputs: Outputs,
    priority: char,
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut first_error = Ok(());
        for output in self.outputs.0.iter() {
            let result = match output {
                Output::Stderr => io::stderr().lock().write_all(line),
                Output::Stdout => {
                    let mut out = io::stdout().lock();
                    out.write_all(line).and_then(|()| out.flush())
                }
                Output::File(file) => file
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .write_line(line),
                Output::Journal(socket) => {
                    let head = format!(
                        "PRIORITY={}\nSYSLOG_IDENTIFIER=etcd\nMESSAGE=",
                        self.priority
                    );
                    socket.send(&[head.as_bytes(), line].concat()).map(|_| ())
                }
            };
            first_error = first_error.and(result);
        }
        first_error.map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connect_journal() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(JOURNAL_SOCKET)?;
    Ok(socket)
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    rotation: Option<LogRotation>,
}

impl LogFile {
    fn open(path: &Path, rotation: Option<LogRotation>) -> io::Result<LogFile> {
        let (file, bytes) = open_append(path)?;
        Ok(LogFile {
            path: path.to_owned(),
            file,
            bytes,
            rotation,
        })
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if let Some(rotation) = self.rotation {
            let max = rotation.max_size_mib.saturating_mul(1024 * 1024);
            if self.bytes > 0 && self.bytes.saturating_add(length) > max {
                self.rotate(rotation)?;
            }
        }
        self.file.write_all(line)?;
        self.bytes += length;
        Ok(())
    }

    /// Moves the file aside and removes moved files that are too many or too old.
    fn rotate(&mut self, rotation: LogRotation) -> io::Result<()> {
        let now = SystemTime::now();
        let (stem, extension) = self.name_parts();
        let moved = format!("{stem}-{}{extension}", timestamp(now).replace(':', "-"));
        std::fs::rename(&self.path, self.path.with_file_name(moved))?;
        (self.file, self.bytes) = open_append(&self.path)?;
        let mut backups = self.backups()?;
        backups.sort();
        let too_many = rotation
            .max_backups
            .map_or(0, |keep| backups.len().saturating_sub(keep));
        let age_max = rotation
            .max_age_days
            .map(|days| Duration::from_secs(days * 86_400));
        for (position, path) in backups.iter().enumerate() {
            let modified = std::fs::metadata(path)?.modified()?;
            let age = now.duration_since(modified).unwrap_or_default();
            if position < too_many || age_max.is_some_and(|max| age > max) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn name_parts(&self) -> (String, String) {
        let part = |text: Option<&std::ffi::OsStr>| {
            text.map(|text| text.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let extension = part(self.path.extension());
        let dot = if extension.is_empty() { "" } else { "." };
        (part(self.path.file_stem()), format!("{dot}{extension}"))
    }

    fn backups(&self) -> io::Result<Vec<PathBuf>> {
        let (stem, extension) = self.name_parts();
        let directory = match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let middle = name
                .strip_prefix(&format!("{stem}-"))
                .and_then(|rest| rest.strip_suffix(&extension));
            // Only names that hold a time of ours: another program's files are not ours to remove.
            if middle.is_some_and(|time| time.len() == 27 && time.ends_with('Z')) {
                found.push(directory.join(name));
            }
        }
        Ok(found)
    }
}

fn open_append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_moved_aside_and_old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etcd.log");
        std::fs::write(directory.path().join("etcd-other.log"), "not ours").unwrap();
        let rotation = LogRotation {
            max_size_mib: 1,
            max_age_days: None,
            max_backups: Some(1),
        };
        let mut file = LogFile::open(&path, Some(rotation)).unwrap();
        let line = vec![b'x'; 700 * 1024];
        for _ in 0..4 {
            file.write_line(&line).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 700 * 1024);
        assert_eq!(file.backups().unwrap().len(), 1);
        assert!(directory.path().join("etcd-other.log").exists());
    }

    #[test]
    fn lines_go_to_every_output_and_null_takes_all() {
        let directory = tempfile::tempdir().unwrap();
        let paths = [directory.path().join("a"), directory.path().join("b")];
        let mut config = LogConfig {
            outputs: paths.iter().cloned().map(LogOutput::File).collect(),
            ..LogConfig::default()
        };
        let outputs = Outputs::open(&config).unwrap();
        outputs.make_writer().write_all(b"line\n").unwrap();
        for path in &paths {
            assert_eq!(std::fs::read_to_string(path).unwrap(), "line\n");
        }
        config
            .outputs
            .push(LogOutput::File(PathBuf::from("/dev/null")));
        let outputs = Outputs::open(&config).unwrap();
        outputs.make_writer().write_all(b"line\n").unwrap();
        assert_eq!(std::fs::read_to_string(&paths[0]).unwrap(), "line\n");
    }

    #[test]
    fn an_output_that_cannot_be_opened_is_named() {
        let config = LogConfig {
            outputs: vec![LogOutput::File(PathBuf::from("/nonexistent/x.log"))],
            ..LogConfig::default()
        };
        assert!(
            Outputs::open(&config)
                .unwrap_err()
                .contains("/nonexistent/x.log")
        );
    }
}

//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Failure;
use crate::lines::{self, Line, Settings, Stage};
use crate::objects::NAMESPACE_OBJECTS;
use crate::side_by_side::{Comparison, ROUNDS_MIN};

/// What forbids io_uring to Sternpost unless an option says otherwise.
const FORBID_IO_URING: &str = "STERNPOST_LOG_FLUSH=aio";

/// What `bench help` prints.
pub const HELP: &str = "\
Measures etcd-compatible stores.

bench side-by-side --etcd BINARY --sternpost BINARY [options]
    Starts both in turn (A B A B) on empty directories of the same disk and compares them.
bench plot --json FILE[,FILE] [--png FILE] [--markdown FILE]
    Reports of earlier runs again, joined to one: as text, picture, Markdown.
bench kube --apiserver BINARY --etcd BINARY --sternpost BINARY [options]
    The same with a kube-apiserver on each store: side-by-side --groups kube.
bench run (--endpoint HOST:PORT | --binary BINARY) [options]
    Runs the lines once, against a running server or one that it starts.
bench anatomy --binary BINARY [options]
    Where the time of one put goes, by the server's own histograms and its threads.
bench flush-probe [--directory DIR]
    How fast the disk makes one 4 KiB write durable.
bench lines
    The lines that can be run.

Options
    --groups A,B      groups of lines: standard, heavy, growth, kube, all (standard)
    --lines A,B       these lines, beside the groups that are named
    --seconds N       measured time of a line                   (5)
    --objects N       objects that lists work on, x 400         (200000)
    --keys N          keys that puts and gets work on           (10000)
    --history N       superseded revisions compacted            (240000)
    --value-bytes N   bytes of a value                          (1024)
    --sustained-seconds N   length of put-sustained             (60)
    --compaction-seconds N  time between two compactions in it  (20)
    --apiserver BINARY      kube-apiserver, for the group kube
    --scale-down N    divides the sizes of heavy and growth lines, to try the bench (1)
    --connections N   connections that clients share            (16)
    --rounds N        rounds of side-by-side, at least 3        (3)
    --directory DIR   holds the data directories                (./target/bench)
    --json FILE       also writes the report as JSON
    --png FILE        also draws the report
    --markdown FILE   also writes the report as Markdown, for docs/performance.md
    --server-flag F   a further flag for every server started here; may be repeated
    --sternpost-env NAME=VALUE   a variable for every Sternpost; may be repeated
    --forbid-io-uring NAME=VALUE the variable that the lines -no-io-uring set
                                 (STERNPOST_LOG_FLUSH=aio: what is left in a container)
";

/// One parsed command line.
#[derive(Debug)]
pub enum Action {
    Help,
    Lines,
    FlushProbe {
        directory: PathBuf,
    },
    Anatomy {
        binary: PathBuf,
        flags: Vec<String>,
        environment: Vec<(String, String)>,
        directory: PathBuf,
        settings: Settings,
    },
    Run {
        target: Target,
        lines: Vec<Line>,
        settings: Settings,
        json: Option<PathBuf>,
    },
    SideBySide {
        comparison: Comparison,
        outputs: Outputs,
    },
    Plot {
        reports: Vec<PathBuf>,
        outputs: Outputs,
    },
}

/// Files that a report is written to.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    pub json: Option<PathBuf>,
    pub png: Option<PathBuf>,
    pub markdown: Option<PathBuf>,
}

/// What `bench run` measures.
#[derive(Debug)]
pub enum Target {
    Endpoint(String),
    Binary {
        binary: PathBuf,
        flags: Vec<String>,
        environment: Vec<(String, String)>,
        directory: PathBuf,
    },
}

#[derive(Debug)]
struct Options {
    etcd: Option<PathBuf>,
    sternpost: Option<PathBuf>,
    endpoint: Option<String>,
    binary: Option<PathBuf>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    forbid_io_uring: (String, String),
    directory: PathBuf,
    rounds: usize,
    settings: Settings,
    lines: Vec<String>,
    groups: Vec<String>,
    outputs: Outputs,
}

fn refuse<T>(message: String) -> Result<T, Failure> {
    Err(Failure::Refused(format!(
        "{message}; `bench help` says more"
    )))
}

/// Parses the words after the program's name.
///
/// # Errors
/// When they name no action, or an option without a usable value.
pub fn parse(words: &[String]) -> Result<Action, Failure> {
    let Some((action, rest)) = words.split_first() else {
        return Ok(Action::Help);
    };
    if rest.iter().any(|word| word == "--help") {
        return Ok(Action::Help);
    }
    let options = options(rest)?;
    match action.as_str() {
        "help" | "--help" | "-h" => Ok(Action::Help),
        "lines" => Ok(Action::Lines),
        "flush-probe" => Ok(Action::FlushProbe {
            directory: options.directory,
        }),
        "run" => run(options),
        "anatomy" => anatomy(options),
        "side-by-side" => side_by_side(options),
        "kube" => kube(options),
        "plot" => plot(options),
        other => refuse(format!("there is no action {other}")),
    }
}

fn anatomy(options: Options) -> Result<Action, Failure> {
    let Some(binary) = options.binary else {
        return refuse("give --binary".to_owned());
    };
    Ok(Action::Anatomy {
        binary,
        flags: options.flags,
        environment: options.environment,
        directory: options.directory,
        settings: options.settings,
    })
}

fn kube(mut options: Options) -> Result<Action, Failure> {
    if options.settings.apiserver.is_none() {
        return refuse("give --apiserver".to_owned());
    }
    options.groups.push("kube".to_owned());
    side_by_side(options)
}

fn plot(options: Options) -> Result<Action, Failure> {
    let Some(json) = options.outputs.json else {
        return refuse("give --json with the report of a run".to_owned());
    };
    let names = json.to_string_lossy().into_owned();
    Ok(Action::Plot {
        reports: names.split(',').map(PathBuf::from).collect(),
        outputs: Outputs {
            json: None,
            ..options.outputs
        },
    })
}

fn run(options: Options) -> Result<Action, Failure> {
    let Options {
        flags,
        environment,
        directory,
        ..
    } = options;
    let mut names = options.lines;
    let target = match (options.endpoint, options.binary) {
        (Some(endpoint), None) => {
            if names.is_empty() && options.groups.is_empty() {
                let foreign = ["start-empty", "restart", "put-handshakes"];
                let all = lines::LINES.iter();
                let usual = all.filter(|line| line.stage == Stage::Usual);
                names = usual
                    .map(|line| line.name)
                    .filter(|name| !foreign.contains(name))
                    .map(str::to_owned)
                    .collect();
            }
            let endpoint = endpoint.strip_prefix("http://").unwrap_or(&endpoint);
            Target::Endpoint(endpoint.trim_end_matches('/').to_owned())
        }
        (None, Some(binary)) => Target::Binary {
            binary,
            flags,
            environment,
            directory,
        },
        _ => return refuse("give either --endpoint or --binary".to_owned()),
    };
    let (settings, json) = (options.settings, options.outputs.json);
    Ok(Action::Run {
        target,
        lines: lines::select(&names, &options.groups)?,
        settings,
        json,
    })
}

fn side_by_side(options: Options) -> Result<Action, Failure> {
    let (Some(etcd), Some(sternpost)) = (options.etcd, options.sternpost) else {
        return refuse("give both --etcd and --sternpost".to_owned());
    };
    let comparison = Comparison {
        etcd,
        sternpost,
        flags: options.flags,
        environment: options.environment,
        forbid_io_uring: options.forbid_io_uring,
        directory: options.directory,
        rounds: options.rounds,
        settings: options.settings,
        lines: lines::select(&options.lines, &options.groups)?,
    };
    Ok(Action::SideBySide {
        comparison,
        outputs: options.outputs,
    })
}

fn options(words: &[String]) -> Result<Options, Failure> {
    let mut options = Options {
        etcd: None,
        sternpost: None,
        endpoint: None,
        binary: None,
        flags: Vec::new(),
        environment: Vec::new(),
        forbid_io_uring: variable(FORBID_IO_URING)?,
        directory: PathBuf::from("target/bench"),
        rounds: ROUNDS_MIN,
        settings: Settings::default(),
        lines: Vec::new(),
        groups: Vec::new(),
        outputs: Outputs::default(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), words.next().cloned()),
        };
        let Some(value) = value else {
            return refuse(format!("{name} needs a value"));
        };
        set(&mut options, name, value)?;
    }
    Ok(options)
}

fn set(options: &mut Options, name: &str, value: String) -> Result<(), Failure> {
    let settings = &mut options.settings;
    match name {
        "--etcd" => options.etcd = Some(value.into()),
        "--sternpost" => options.sternpost = Some(value.into()),
        "--endpoint" => options.endpoint = Some(value),
        "--apiserver" => settings.apiserver = Some(value.into()),
        "--binary" => options.binary = Some(value.into()),
        "--server-flag" => options.flags.push(value),
        "--directory" => options.directory = value.into(),
        "--sternpost-env" => options.environment.push(variable(&value)?),
        "--forbid-io-uring" => options.forbid_io_uring = variable(&value)?,
        "--json" => options.outputs.json = Some(value.into()),
        "--png" => options.outputs.png = Some(value.into()),
        "--markdown" => options.outputs.markdown = Some(value.into()),
        "--groups" => options.groups.extend(value.split(',').map(str::to_owned)),
        "--lines" => options.lines.extend(value.split(',').map(str::to_owned)),
        "--rounds" => options.rounds = number(name, &value)?,
        "--seconds" => settings.length = Duration::from_secs(number(name, &value)?),
        "--sustained-seconds" => {
            settings.sustained = Duration::from_secs(number(name, &value)?);
        }
        "--compaction-seconds" => {
            settings.compaction = Duration::from_secs(number(name, &value)?);
        }
        "--scale-down" => settings.scale_down = number(name, &value)?,
        "--keys" => settings.keys = number(name, &value)?,
        "--history" => settings.history = number(name, &value)?,
        "--value-bytes" => settings.value_bytes = number(name, &value)?,
        "--connections" => settings.connections = number(name, &value)?,
        "--objects" => {
            settings.objects = number(name, &value)?;
            if !settings.objects.is_multiple_of(NAMESPACE_OBJECTS) {
                return refuse(format!(
                    "--objects must be a multiple of {NAMESPACE_OBJECTS}"
                ));
            }
        }
        _ => return refuse(format!("there is no option {name}")),
    }
    Ok(())
}

fn variable(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => refuse(format!("{text} is no NAME=VALUE")),
    }
}

/// A number above zero.
fn number<N: std::str::FromStr + PartialEq + Default>(
    name: &str,
    value: &str,
) -> Result<N, Failure> {
    match value.parse() {
        Ok(number) if number != N::default() => Ok(number),
        _ => refuse(format!("{name} needs a number above zero, not {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Action, Failure> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn actions_and_options_are_read() {
        let Action::SideBySide { comparison, .. } =
            parsed("side-by-side --etcd a --sternpost=b --lines count,put-1 --seconds 2").unwrap()
        else {
            panic!("another action");
        };
        let names: Vec<_> = comparison.lines.iter().map(|line| line.name).collect();
        assert_eq!(names, ["put-1", "count"]);
        assert_eq!(comparison.settings.length, Duration::from_secs(2));
        let Action::Run { lines, .. } = parsed("run --endpoint http://127.0.0.1:2379/").unwrap()
        else {
            panic!("another action");
        };
        assert!(lines.iter().all(|line| line.name != "restart"));
        let Action::Plot { reports, outputs } =
            parsed("plot --json a.json,b.json --png c.png").unwrap()
        else {
            panic!("another action");
        };
        assert_eq!(reports.len(), 2);
        assert_eq!(outputs.png, Some(PathBuf::from("c.png")));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "walk",
            "run",
            "run --endpoint a:1 --binary b",
            "run --endpoint a:1 --lines fly",
            "run --endpoint a:1 --seconds 0",
            "run --endpoint a:1 --objects 401",
            "run --endpoint",
            "side-by-side --etcd a",
            "side-by-side --etcd a --sternpost b --groups fly",
            "side-by-side --etcd a --sternpost b --sternpost-env name",
            "plot --png a",
            "kube --etcd a --sternpost b",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}

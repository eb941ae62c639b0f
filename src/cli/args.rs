//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Recipe, Step};
use crate::quicklook::{Collapse, Stretch};

const FAMILIES: &str = "Options for steps and references, with reduce, run and plan:\n  \
    --steps.<STEP>.<PARAMETER>=VALUE  a parameter of a step (`irisgpu config show` lists them)\n  \
    --override_<REFTYPE>=FILE         a reference file in place of the one chosen";

/// Raw frames of IRIS to calibrated images and cubes, on a GPU or without one.
#[derive(Debug, Parser)]
#[command(name = "irisgpu", version, after_help = FAMILIES, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Simulate a small night, reduce it, and compare with the truth
    Demo(Demo),
    /// Reduce everything in a night that is not up to date; products that the night does not make any more go into stale/
    #[command(after_help = FAMILIES)]
    Reduce(Reduce),
    /// Reduce a night's frames as they arrive
    #[command(after_help = FAMILIES)]
    Watch(Watch),
    /// One recipe, or one step, on named files
    #[command(after_help = FAMILIES)]
    Run(Run),
    /// Raw ramps to counts over the ramp, as iris_readout gives them, with rate, errors and flags beside
    #[command(after_help = FAMILIES)]
    Readout(Readout),
    /// What `reduce` would do, with each reference and why it was chosen
    #[command(after_help = FAMILIES)]
    Plan(Plan),
    /// A night as one page (HTML, and JSON): what was made, its numbers, what failed and why
    Report(Report),
    /// A picture of a file (PNG), its statistics, star widths, depth and Strehl ratio
    Quicklook(Quicklook),
    /// How far the tasks of a plan's file are, from their products alone, and what is in stale/ (exit code 1 where one failed)
    Status(Status),
    /// A plan's file as a scheduler's: a script for Slurm, or a Snakefile, on stdout
    Emit(Emit),
    /// Which reference applies to an exposure, and why the others do not
    Refs(Refs),
    /// What files say of themselves, and what they leave out
    Meta(Meta),
    /// Lenslet calibrations as rectification matrices in OSIRIS's format, and back
    Rectmat(Rectmat),
    /// A night of raw frames with their truth
    Simulate(Simulate),
    /// The devices of this machine, and which one is chosen
    Devices(Devices),
    /// Recipes and parameters as they are in effect
    Config(Config),
    /// The program measured against its own goals
    Bench(Bench),
}

/// Options of every verb that reduces.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Common {
    /// Folder for products [default: NIGHT/reduced; `run`: the current folder]
    #[arg(short, long = "output-dir", value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Recipes (a YAML file of one or several), each in place of the built-in one of its name; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) config: Vec<PathBuf>,
    /// Instrument file (YAML) in place of the built-in one
    #[arg(long, value_name = "FILE")]
    pub(super) instrument: Option<PathBuf>,
    /// Folder of reference files; repeatable [default: NIGHT/refs; `run`: refs/ beside the first file]
    #[arg(long, value_name = "DIR")]
    pub(super) refs: Vec<PathBuf>,
    /// Folder of masters of another night, or that night's folder; repeatable
    #[arg(long, value_name = "DIR")]
    pub(super) masters: Vec<PathBuf>,
    /// CRDS context, for references that no folder has; `none` for no CRDS [default: CRDS_CONTEXT, else the cache's own]
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// Seconds from read to read, for files that do not say
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(super) read_time: Option<f64>,
    /// A raw exposure before the others, whose saturated pixels may glow in them (persistence); repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) earlier: Vec<PathBuf>,
    /// Write the rate of each ramp, too: ..._ramps.fits beside the rate of an exposure of several (what is up to date: with --force)
    #[arg(long)]
    pub(super) save_ramps: bool,
    /// Write the imager's products so that another package opens them, too: `liger` (liger_iris_pipeline)
    #[arg(long, value_name = "PACKAGE", value_parser = ["liger"])]
    pub(super) compat: Option<String>,
    /// Suffix of product names
    #[arg(long)]
    pub(super) suffix: Option<String>,
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Write a timeline of the run, for a browser's trace viewer (chrome://tracing, ui.perfetto.dev)
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    #[command(flatten)]
    pub(super) log: Log,
    #[command(flatten)]
    pub(super) engine: Engine,
    #[command(flatten)]
    pub(super) talk: Talk,
}

impl Common {
    /// The first option given that decides what is done, not how.
    pub(super) fn decides(&self) -> Option<&'static str> {
        let given = [
            ("--output-dir", self.output.is_some()),
            ("--config", !self.config.is_empty()),
            ("--instrument", self.instrument.is_some()),
            ("--refs", !self.refs.is_empty()),
            ("--masters", !self.masters.is_empty()),
            ("--context", self.context.is_some()),
            ("--read-time", self.read_time.is_some()),
            ("--earlier", !self.earlier.is_empty()),
            ("--save-ramps", self.save_ramps),
            ("--compat", self.compat.is_some()),
            ("--suffix", self.suffix.is_some()),
        ];
        given.iter().find(|(_, is)| *is).map(|(name, _)| *name)
    }
}

/// What is written down.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Log {
    /// Log file, appended to [default: irisgpu.log in the folder of products; `run`: none]
    #[arg(long = "log", value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// What is logged: this and what is graver [default: info]
    #[arg(long = "log-level", value_name = "LEVEL", value_enum, ignore_case = true)]
    pub(super) level: Option<Level>,
    /// How a line is written: as text, or as a JSON object
    #[arg(long = "log-format", value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
    pub(super) format: String,
}

/// How grave an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Level {
    /// Nothing is logged.
    Off,
    /// Something failed.
    Error,
    /// Something is doubtful.
    Warn,
    /// Something was done.
    Info,
    /// Something begins.
    Debug,
}

/// What computes.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Engine {
    /// `cpu`, `gpu` (hardware, else exit code 3), `all` (every such GPU, each with tasks of its own), a part of a device's name, or `pci:BUS-ID`
    #[arg(long, value_name = "NAME")]
    pub(super) device: Option<String>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// Memory for frames, as 2GiB or 500MB
    #[arg(long, value_name = "BYTES")]
    pub(super) memory: Option<String>,
    /// Tasks at a time (`watch`: in its last pass); each takes memory of its own [default: 2 a device]
    #[arg(long, value_name = "N")]
    pub(super) at_once: Option<usize>,
}

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Talk {
    /// No progress, no notes: the result and errors alone
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Say more
    #[arg(short, long)]
    pub(super) verbose: bool,
}

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Folder for the night, kept afterwards
    #[arg(default_value = "demo-night")]
    pub(super) dir: PathBuf,
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) engine: Engine,
    #[command(flatten)]
    pub(super) talk: Talk,
}

#[derive(Debug, Args)]
pub(super) struct Reduce {
    /// The night's folder
    #[arg(required_unless_present = "plan", conflicts_with = "plan")]
    pub(super) night: Option<PathBuf>,
    /// A plan's file (`plan --save`) in place of a night: its tasks, or those that --only names by number or id
    #[arg(long, value_name = "FILE")]
    pub(super) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(super) select: Select,
    /// Print the plan and do nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Write report.html and report.json beside the products, too
    #[arg(long)]
    pub(super) report: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Watch {
    /// The night's folder
    pub(super) night: PathBuf,
    /// Quick recipes (configs/quicklook.yaml) for real time; `reduce` makes it all again in full
    #[arg(long)]
    pub(super) quick: bool,
    /// End, with one last full pass, when nothing has come or remained to be done for so long [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) until_idle: Option<f64>,
    /// Look for new frames this often
    #[arg(long, value_name = "SECONDS", value_parser = pause, default_value = "1")]
    pub(super) poll: f64,
    /// Size and time of a file stand still so long before it counts as whole
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "2")]
    pub(super) settle: f64,
    /// Reduce science again with better calibrations, and make masters that nothing waits for, when no frame has come for so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub(super) quiet_time: f64,
    /// Show the newest product in DS9, which must run (needs `xpaset`)
    #[arg(long)]
    pub(super) ds9: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|s| (0.0..=1e6).contains(s));
    number.ok_or_else(|| "give seconds, from 0 to a million".to_owned())
}

/// Seconds between looks: without any, looking would be all that a core does.
fn pause(text: &str) -> Result<f64, String> {
    seconds(text).ok().filter(|s| *s >= 0.05).ok_or_else(|| "give seconds, from 0.05 to a million".to_owned())
}

/// Which part of a night.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Select {
    /// Only what matches a part of, or a `*` pattern for, a file, an OBSNAME or a recipe (and what that needs)
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// Do again what is up to date
    #[arg(short, long)]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    /// The night's folder
    pub(super) night: PathBuf,
    /// Write the plan to this file, too: JSON, one line a task, for `reduce --plan`, `status` and `emit`
    #[arg(long, value_name = "FILE")]
    pub(super) save: Option<PathBuf>,
    #[command(flatten)]
    pub(super) select: Select,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// The plan's file (`plan --save`)
    pub(super) plan: PathBuf,
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Emit {
    /// Who is to run the tasks
    #[arg(value_enum)]
    pub(super) scheduler: Scheduler,
    /// The plan's file (`plan --save`), where the machines that run its tasks see it
    pub(super) plan: PathBuf,
    /// GPUs of a task; 0 for the CPU engine
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) gpus: u32,
    /// Cores of a task
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) cpus: u32,
    /// Tasks of an array that run at once (Slurm) [default: as many as there is room for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) at_once: Option<u32>,
    /// irisgpu as those machines see it [default: this program]
    #[arg(long, value_name = "FILE")]
    pub(super) program: Option<PathBuf>,
}

/// Who runs the tasks of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Scheduler {
    /// A bash script that submits arrays of jobs.
    Slurm,
    /// A Snakefile, a rule a task.
    Snakemake,
}

/// The built-in recipes, a line each.
fn recipes() -> String {
    let mut text = String::from("Recipes:\n");
    for recipe in Recipe::names().filter_map(|n| Recipe::built_in(n).ok()) {
        text += &format!("  {:<12} {}\n", recipe.name, recipe.about);
    }
    text + &format!("Steps:\n  {}", Step::NAMES.join(", "))
}

#[derive(Debug, Args)]
#[command(after_help = recipes())]
pub(super) struct Run {
    /// A recipe, a step, a recipe's YAML file, an stpipe .cfg file, or a pipeline's or step's class
    #[arg(value_name = "RECIPE|STEP")]
    pub(super) recipe: String,
    /// Raw frames, or rates where the recipe begins there; or associations (.json)
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,
    /// Name of the product, to which its suffix is added (rate, cal, ...)
    #[arg(long, value_name = "NAME")]
    pub(super) output_file: Option<String>,
    /// Understood, as stpipe has it: products are always saved (of one step: --steps.<STEP>.save_results=true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(super) save_results: Option<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Readout {
    /// How reads become one number: up the ramp (a line through all), multiple correlated double sampling, or last less first
    #[arg(short, long, value_name = "MODE", value_enum, ignore_case = true, default_value = "utr")]
    pub(super) sampling: Sampling,
    /// Reads averaged at each end by mcds [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) num_coadd: Option<u32>,
    /// Ramps. Where a file does not say when its reads were taken they are taken as 1 s apart, which counts do not depend on (--read-time)
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// How reads become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sampling {
    /// A line through all reads.
    Utr,
    /// Mean of the last reads less mean of the first.
    Mcds,
    /// Last read less first.
    Cds,
}

#[derive(Debug, Args)]
pub(super) struct Report {
    /// The night's folder, or that of its products
    pub(super) night: PathBuf,
    /// Folder for report.html and report.json [default: the products' folder]
    #[arg(short, long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Folder of the products [default: NIGHT/reduced]
    #[arg(long, value_name = "DIR")]
    pub(super) from: Option<PathBuf>,
    /// Instrument file (YAML) in place of the built-in one
    #[arg(long, value_name = "FILE")]
    pub(super) instrument: Option<PathBuf>,
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Quicklook {
    /// A product, a raw ramp (its last read less its first) or any FITS image; several are shown side by side
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,
    /// The picture [default: the file's name with .png, in the current folder]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Another image of the file, by name or number: ERR, DQ, CHI2 ...
    #[arg(long, value_name = "HDU")]
    pub(super) extension: Option<String>,
    /// Values, or percentiles as 1%,99.5%, of the first and the last colour [default: 2 sigma below the median, 99.8 %]
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true)]
    pub(super) cut: Option<String>,
    /// How values become colours
    #[arg(long, value_enum, ignore_case = true, default_value = "asinh")]
    pub(super) stretch: Stretch,
    /// One channel of a cube, counted from 1
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["wavelength", "channels"])]
    pub(super) slice: Option<u32>,
    /// The channel of a cube at this wavelength; of an image, the wavelength of the Strehl ratio (um)
    #[arg(long, value_name = "UM", conflicts_with = "channels")]
    pub(super) wavelength: Option<f64>,
    /// How the channels of a cube become an image, and the spaxels of a circle a spectrum; of cubes alone, and not of one channel (--slice, --wavelength) [default: mean]
    #[arg(long, value_enum, ignore_case = true)]
    pub(super) collapse: Option<Collapse>,
    /// The channels that --collapse takes, counted from 1 [default: all]
    #[arg(long, value_name = "FROM,TO")]
    pub(super) channels: Option<String>,
    /// Draw the spectrum at a spaxel, or of those within R spaxels of it (counted from 1), of all channels
    #[arg(long, value_name = "X,Y[,R]", conflicts_with_all = ["slice", "wavelength", "channels", "smooth", "cut", "stretch", "size"])]
    pub(super) spectrum: Option<String>,
    /// Draw the values along a line between two pixels (counted from 1), averaged over WIDTH pixels across it
    #[arg(long, value_name = "X1,Y1,X2,Y2[,WIDTH]", conflicts_with_all = ["spectrum", "smooth", "cut", "stretch", "size"])]
    pub(super) line: Option<String>,
    /// Draw the image smoothed by a Gaussian of so many pixels FWHM; what is measured is not
    #[arg(long, value_name = "FWHM", value_parser = smoothing)]
    pub(super) smooth: Option<f64>,
    /// Measure only there: corners in pixels counted from 1, both within
    #[arg(long, value_name = "X1,Y1,X2,Y2")]
    pub(super) region: Option<String>,
    /// Centre and width of the star there (pixels counted from 1)
    #[arg(long, value_name = "X,Y")]
    pub(super) at: Option<String>,
    /// Longest side of the image drawn, or of each of several
    #[arg(long, value_name = "PIXELS", default_value_t = 768, value_parser = clap::value_parser!(u32).range(32..=8192))]
    pub(super) size: u32,
    /// Show the files in the DS9 that runs, too (needs xpaset)
    #[arg(long)]
    pub(super) ds9: bool,
    /// Instrument file (YAML) in place of the built-in one
    #[arg(long, value_name = "FILE")]
    pub(super) instrument: Option<PathBuf>,
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Quicklook {
    /// How channels and spaxels are put together.
    pub(super) fn how(&self) -> Collapse {
        self.collapse.unwrap_or_default()
    }
}

/// A width that a picture can be smoothed by.
fn smoothing(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|w| (0.1..=500.0).contains(w)).ok_or_else(|| "0.1 to 500 pixels".to_owned())
}

#[derive(Debug, Args)]
pub(super) struct Refs {
    #[command(subcommand)]
    pub(super) verb: RefsVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum RefsVerb {
    /// The reference of each type
    Best {
        /// An exposure
        #[arg(required_unless_present = "header", conflicts_with = "header")]
        file: Option<PathBuf>,
        /// Only these types (CRDS types under the context's own names); repeatable
        #[arg(long, value_name = "TYPE", value_delimiter = ',')]
        reftype: Vec<String>,
        #[command(flatten)]
        from: Sources,
    },
    /// Every candidate of one type, and why it lost
    Explain {
        /// An exposure (unless --header stands for it), and the reference type
        #[arg(value_names = ["FILE", "TYPE"], num_args = 0..=2)]
        what: Vec<String>,
        /// The reference type
        #[arg(long, value_name = "TYPE")]
        reftype: Option<String>,
        #[command(flatten)]
        from: Sources,
    },
}

/// Where references come from.
#[derive(Debug, Args)]
pub(super) struct Sources {
    /// A header in JSON in place of an exposure, for CRDS alone: {"META.INSTRUMENT.NAME": "IRIS", ...}
    #[arg(long, value_name = "FILE")]
    pub(super) header: Option<PathBuf>,
    /// CRDS context: a name in the cache, or a mapping's file; `none` for no CRDS [default: CRDS_CONTEXT, else the cache's own]
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// Folder of reference files; repeatable [default: refs/ beside the file]
    #[arg(long, value_name = "DIR")]
    pub(super) refs: Vec<PathBuf>,
    /// Folder of masters of another night, or that night's folder; repeatable
    #[arg(long, value_name = "DIR")]
    pub(super) masters: Vec<PathBuf>,
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Meta {
    #[command(subcommand)]
    pub(super) verb: MetaVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum MetaVerb {
    /// Keywords that are missing, illegal, contradictory, or under other names (exit code 1 where something must be mended)
    Check {
        /// Raw frames, products, references
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Instrument file (YAML) in place of the built-in one
        #[arg(long, value_name = "FILE")]
        instrument: Option<PathBuf>,
        /// Result as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Rectmat {
    #[command(subcommand)]
    pub(super) verb: RectmatVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum RectmatVerb {
    /// Profiles and throughputs of a LEN-SPX calibration as hilo, effective and basis_vectors
    Export {
        /// LEN-SPX calibration
        #[arg(value_name = "LENSPX")]
        lenspx: PathBuf,
        /// The matrix to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// A LEN-SPX calibration (for `banded`) with the profiles of a matrix
    Import {
        /// Rectification matrix
        #[arg(value_name = "MATRIX")]
        matrix: PathBuf,
        /// LEN-SPX calibration of the same lenslets, in the order of the matrix: wavelengths and places in the field
        #[arg(long, value_name = "LENSPX")]
        like: PathBuf,
        /// The calibration to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// The night's description (YAML)
    pub(super) config: PathBuf,
    /// Folder to write
    pub(super) dir: PathBuf,
    /// Write into a folder that holds something else, and again what is there already
    #[arg(short, long)]
    pub(super) force: bool,
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) talk: Talk,
}

#[derive(Debug, Args)]
pub(super) struct Devices {
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) engine: Engine,
}

#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    pub(super) verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Print a recipe (or a step, or `instrument`) as it is in effect; all recipes without a name
    Show {
        /// A recipe, a step, or `instrument`
        recipe: Option<String>,
        /// Recipes (a YAML file of one or several), each in place of the built-in one of its name; repeatable
        #[arg(long, value_name = "FILE")]
        config: Vec<PathBuf>,
        /// Instrument file (YAML) in place of the built-in one
        #[arg(long, value_name = "FILE")]
        instrument: Option<PathBuf>,
        /// Result as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    pub(super) verb: BenchVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum BenchVerb {
    /// Statistics of stage 1 on simulated ramps, as a markdown report with targets (exit code 1 where one is missed)
    Accuracy(Accuracy),
    /// Lenslet extraction on simulated frames of known truth, as a markdown report with targets (exit code 1 where one is missed)
    Lenslet(LensletBench),
    /// How fast this machine is, beside its own limits: kernels, and whole exposures file to file
    Speed(Speed),
    /// Two results of `bench speed --json` side by side
    Compare(Compare),
}

#[derive(Debug, Args)]
pub(super) struct LensletBench {
    /// Rows of lenslets of the small detector, 16 in each
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(super) rows: usize,
    /// Time the IRIS format, too: 4096 × 4096 pixels, 2048 spectra
    #[arg(long)]
    pub(super) full: bool,
    /// Only sections with this in their name: leak, calibration, flux, errors, rejection, precision, wavelength, time
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// Write the report to this file, too
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) talk: Talk,
}

#[derive(Debug, Args)]
pub(super) struct Speed {
    /// Only these parts: kernels, stage1, four (detectors), night [default: kernels,stage1]
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// Pixels along an edge of whole frames
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub(super) size: usize,
    /// Reads of a ramp
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [10, 20])]
    pub(super) reads: Vec<usize>,
    /// Runs of each, after one that warms up
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) runs: usize,
    /// Folder for files, on the disk to be measured; emptied of them afterwards [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(super) folder: Option<PathBuf>,
    /// Write the result as JSON to this file, too
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) engine: Engine,
    #[command(flatten)]
    pub(super) talk: Talk,
}

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// Result of an earlier `bench speed`
    pub(super) before: PathBuf,
    /// Result of a later one
    pub(super) after: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Accuracy {
    /// Ramps a point
    #[arg(long, value_name = "N", default_value_t = 400_000)]
    pub(super) ramps: usize,
    /// Few ramps: 20000 a point
    #[arg(long, conflicts_with = "ramps")]
    pub(super) quick: bool,
    /// Only sections with this in their name: grid, patterns, precision, false jumps, completeness, saturated, pedestal
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// Write the report to this file, too
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Result as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) engine: Engine,
    #[command(flatten)]
    pub(super) talk: Talk,
}

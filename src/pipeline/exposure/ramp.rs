//! A raw ramp through stage 1: to its rate, or to a ramp where the recipe stops before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::calibration::{Calibration, IPC_NOISE};
use super::super::job::Job;
use super::super::jump_list::JumpList;
use super::super::persistence::{self, Found};
use super::super::product::About;
use super::super::provenance::{Provenance, Status};
use super::super::rate_file::{MOST_READS, RateFile};
use super::super::stage1::{Plan, Stream, theirs};
use super::super::{dq_init, ramp_file, ramp_rates, ramp_weights, subarrays};
use super::{
    Checksums, Level1, Made, Session, Straight, about, coordinates, name_references, note_references,
    stage1_of, unknown, write_lists,
};
use crate::config::{Algorithm, RampFit, RateUnits, Recipe, RefpixAlgorithm, Step};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::fits::Header;
use crate::input::{Encoding, RAMPSPAN, Ramp};
use crate::kernels::ramp::{Counts, Line};
use crate::refs;

/// Of a stored ramp: its reads came as whole numbers.
const ROUNDED: &str = "ROUNDED";

/// Brings `ramp` through the recipe's stage 1. What may be written as it is made goes to
/// `straight`.
pub(super) fn reduce(
    job: &Job,
    mut ramp: Ramp,
    mut record: Provenance,
    straight: Straight<'_>,
    session: &mut Session<'_>,
    progress: &dyn Fn(f64),
) -> Result<Made> {
    let engine = &mut *session.engine;
    let mut recipe = stage1_of(&job.recipe)?;
    record.warnings.clone_from(&ramp.warnings);
    leave_done(&mut recipe, &ramp, &mut record.warnings);
    let detector = match job.instrument.detector_of(&ramp.meta.detector, &ramp.path) {
        // Counts need no detector.
        Err(e) if job.recipe.name == "readout" => {
            let (name, any) = job.instrument.detectors.iter().next().ok_or(e)?;
            let whose =
                format!("DETECTOR = '{}' is not known: errors are those of {name}", ramp.meta.detector);
            record.warnings.push(whose);
            any
        }
        known => known?,
    };
    let wanted = wanted(&recipe, &ramp, &job.references);
    // Methods of other programs have their noise too: nothing for the rounding. They need
    // evenly spaced reads.
    let theirs = theirs(&recipe);
    let dq_init = recipe.active(|s| if let Step::DqInit(d) = s { Some(d) } else { None }).cloned();
    if let Some(step) = &dq_init
        && let Some(selected) = dq_init::select(&ramp, step, theirs)?
    {
        ramp = selected;
    }
    let rounded = ramp.encoding != Encoding::F32 || ramp.header.logical(ROUNDED) == Some(true);
    let mut cal = Calibration::open(&wanted, &ramp, detector, rounded && !theirs)?;
    let used = used(&wanted, &cal);
    cal.without(&recipe);
    let windows = match &dq_init {
        Some(step) if step.mask_guide_windows => {
            dq_init::guide_windows(&ramp.path, &ramp.header, (ramp.ny, ramp.nx), &mut cal.warnings)?
        }
        _ => None,
    };
    cal.mark(windows.iter().flatten().copied(), dq_init::GUIDE_WINDOW);
    let apart = record.subarrays.as_ref().filter(|_| runs(&recipe, "parse_subarray_map"));
    cal.mark(apart.iter().flat_map(|map| map.pixels()), subarrays::APART);
    if runs(&recipe, "linearity")
        && let Some(nonlin) = wanted.get("nonlin")
    {
        cal.check_zero_point(nonlin)?;
    }
    let mut plan = Plan::new(&recipe, &cal);
    if record.subarrays.is_none() {
        plan.left_out.push(("parse_subarray_map", "no SUBARR_MAP".into()));
    }
    let mut glow = None;
    if let Some(step) = recipe.active(|s| if let Step::Persistence(p) = s { Some(p) } else { None }) {
        glow = persistence::flag(job, &ramp, step, &mut cal, session.saturated)?;
        match &glow {
            Some(found) => record.warnings.extend(found.warnings.iter().cloned()),
            None => plan.left_out.push(("persistence", persistence::UNKNOWN.into())),
        }
    }
    let mut stream = Stream::prepare(&ramp, cal, &mut plan, detector, engine)?;
    stream.take_zeroframe(&wanted, &recipe, detector, engine)?;
    note_steps(&mut record, &recipe, &plan, stream.calibration());
    if plan.fits() && ramp.reads < 2 {
        // Most often it is cut, which is a warning of its own.
        let why: Vec<&str> = ["a rate needs two at least"]
            .into_iter()
            .chain(ramp.warnings.iter().map(String::as_str))
            .collect();
        return Err(Error::input(&ramp.path, format!("has one read a ramp: {}", why.join("; "))));
    }
    let mut header = describe(&ramp, &stream, windows.as_deref(), glow.as_ref());
    let fit = recipe.active(|s| if let Step::RampFit(f) = s { Some(f) } else { None });
    let half = ramp.reads / 2;
    if let Some(f) = fit.filter(|f| f.algorithm == Algorithm::Mcds && f.num_coadd as usize > half) {
        record.warnings.push(format!(
            "ramp_fit.num_coadd = {}: more than half of the {} reads; {half} are averaged at each end",
            f.num_coadd, ramp.reads
        ));
    }
    let by_scatter = fit.filter(|f| ramp_weights::wanted(f, &ramp));
    let alone = !job.save_ramps && job.compat.is_none() && by_scatter.is_none();
    let few = ramp.ramps * ramp.reads <= MOST_READS;
    if let Some(path) = straight.rate.filter(|_| plan.fits() && alone && few && stream.gives_rates())
        && fit.is_some_and(|f| f.units != RateUnits::OverRamp)
    {
        let of = Exposure { job, ramp: &ramp, stream: &stream, recipe: &recipe, used: &used };
        return give(&of, (header, record), &path(&ramp.meta), session, progress);
    }
    note_references(&mut record, job, &used, session.checksums)?;
    if !plan.fits() {
        if rounded {
            header.set(ROUNDED, true, "reads were whole numbers");
        }
        return store(straight.ramp, &ramp, &stream, (&recipe, &header, record), engine);
    }
    let share = if job.save_ramps { 0.5 } else { 1.0 };
    let (mut rate, found) = stream.rates_and_jumps(engine, &|f| progress(share * f))?;
    let jumps = found.map(|found| JumpList::new(found, &ramp));
    if let Some(jumps) = &jumps {
        jumps.count(&mut header);
    } else if stream.lists_jumps() {
        record.warnings.push(TOO_MANY.into());
    }
    let jumps = jumps.filter(|_| saves_jumps(&recipe));
    let mut ramps = Vec::new();
    if job.save_ramps || by_scatter.is_some() {
        let progress = |f: f64| progress(share + (1.0 - share) * f);
        ramps = ramp_rates::each(&ramp, &recipe, &wanted, detector, &stream, engine, &progress)?;
    }
    if let Some(step) = by_scatter {
        rate = ramp_weights::combined(&ramp, &stream, &ramps, step, engine)?;
        ramps.truncate(if job.save_ramps { ramps.len() } else { 0 });
    }
    let span = fit.and_then(|f| counts_over(f, &ramp, &mut header));
    Ok(Made::Rate(Box::new(Level1 {
        meta: ramp.meta.clone(),
        header,
        rate,
        provenance: record,
        fresh: true,
        counts: fit.is_some_and(|f| f.units != RateUnits::Electrons),
        span,
        common: Vec::new(),
        ramps,
        jumps,
        reads: ramp.each_read(),
    })))
}

/// An exposure that is about to be fitted.
struct Exposure<'a> {
    job: &'a Job,
    ramp: &'a Ramp,
    stream: &'a Stream<'a>,
    recipe: &'a Recipe,
    /// Types of the references that it uses.
    used: &'a [&'static str],
}

/// Fits an exposure and writes its rate as rows are done. Meanwhile the checksums of its
/// references are taken.
fn give(
    of: &Exposure<'_>,
    (header, mut record): (Header, Provenance),
    path: &Path,
    session: &mut Session<'_>,
    progress: &dyn Fn(f64),
) -> Result<Made> {
    let Exposure { job, ramp, stream, recipe, used } = *of;
    let Session { engine, checksums, .. } = session;
    let unknown = unknown(job, used, checksums);
    // As long as those that will stand there.
    let mut known = checksums.clone();
    known.extend(unknown.iter().map(|p| (p.clone(), "0".repeat(16))));
    name_references(&mut record, job, used, &known);
    let fit = recipe.active(|s| if let Step::RampFit(f) = s { Some(f) } else { None });
    let counts = fit.is_some_and(|f| f.units != RateUnits::Electrons);
    let wcs = coordinates(&header, &ramp.meta, (ramp.ny, ramp.nx), job);
    let (sums, given) = std::thread::scope(|scope| {
        let sums = scope.spawn(|| -> Result<Checksums> {
            unknown.into_iter().map(|p| refs::checksum(&p).map(|sum| (p, sum))).collect()
        });
        let mut attempt = |list: bool, record: &Provenance| -> Result<_> {
            let mut header = header.clone();
            if list {
                JumpList::new(Vec::new(), ramp).count(&mut header);
            }
            let about = about(&header, &ramp.meta, counts, wcs.as_ref(), record);
            let mut file = RateFile::begin(path, &about, (ramp.ny, ramp.nx))?;
            let jumps = stream.give_rates(&mut **engine, list, &mut |band| file.put(band), progress)?;
            Ok(jumps.map(|jumps| (file, header, list.then(|| JumpList::new(jumps, ramp)))))
        };
        let mut given = attempt(stream.lists_jumps(), &record);
        if matches!(given, Ok(None)) {
            record.warnings.push(TOO_MANY.into());
            given = attempt(false, &record);
        }
        (sums.join(), given)
    });
    let Some((file, mut header, jumps)) = given? else {
        return Err(Error::Unsolvable(format!(
            "{}: jumps were counted that nobody looked for",
            path.display()
        )));
    };
    checksums.extend(sums.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
    name_references(&mut record, job, used, checksums);
    if let Some(jumps) = &jumps {
        jumps.count(&mut header);
    }
    let about = about(&header, &ramp.meta, counts, wcs.as_ref(), &record);
    let jumps = jumps.filter(|_| saves_jumps(recipe));
    let mut written: Vec<PathBuf> = write_lists(path, &about, jumps, ramp.each_read())?.into_iter().collect();
    written.push(file.finish(path, &about)?);
    Ok(Made::Written(written, record.warnings))
}

/// Said where a list of jumps is let go.
const TOO_MANY: &str = "jump: more jumps than half the pixels: no list, and nothing flagged beside them; is the \
                        read noise right?";

fn saves_jumps(recipe: &Recipe) -> bool {
    recipe.active(|s| if let Step::Jump(j) = s { Some(j) } else { None }).is_some_and(|j| j.save_jumps)
}

fn runs(recipe: &Recipe, step: &str) -> bool {
    recipe.steps.iter().any(|s| s.name() == step && !s.skip())
}

/// Steps that an earlier run did are not done again.
fn leave_done(recipe: &mut Recipe, ramp: &Ramp, warnings: &mut Vec<String>) {
    let done =
        |s: &Step| ramp.header.has("DRSVER") && ramp.header.text(s.keyword()).as_deref() == Some("COMPLETE");
    let names: Vec<&str> = recipe.steps.iter().filter(|s| done(s)).map(Step::name).collect();
    if !names.is_empty() {
        warnings.push(format!("the ramp went through {} before: not done again", names.join(", ")));
    }
    recipe.steps.retain(|s| !done(s));
}

/// Those of `references` that the steps of `recipe` read.
fn wanted(recipe: &Recipe, ramp: &Ramp, references: &BTreeMap<String, PathBuf>) -> BTreeMap<String, PathBuf> {
    let sirs = |s: &Step| matches!(s, Step::Refpix(r) if r.refpix_algorithm == RefpixAlgorithm::Sirs);
    let linearity = runs(recipe, "linearity");
    let reads = |reftype: &str| match reftype {
        // Where the reference pixels are, ipc asks the mask too.
        "mask" => runs(recipe, "dq_init") || runs(recipe, "ipc"),
        "bias" => runs(recipe, "bias") || ramp.header.has("S_BIAS"),
        "refpix" => recipe.active(|s| sirs(s).then_some(s)).is_some(),
        // How it stretched the noise of the reads is wanted of a polynomial applied before.
        "nonlin" => linearity || ramp.header.text("S_NLCORR").as_deref() == Some("COMPLETE"),
        "invlin" => linearity,
        // As it amplified that noise, pixel by pixel.
        "ipc" => runs(recipe, "ipc") || ramp.header.text("S_IPC").as_deref() == Some("COMPLETE"),
        "dark" => runs(recipe, "dark_ramp"),
        _ => true,
    };
    references.iter().filter(|(t, _)| reads(t)).map(|(t, p)| (t.clone(), p.clone())).collect()
}

/// The types of stage 1 among `wanted` of which `cal` makes use.
fn used(wanted: &BTreeMap<String, PathBuf>, cal: &Calibration<'_>) -> Vec<&'static str> {
    ["mask", "bias", "saturation", "ipc", "refpix", "gain", "readnoise", "nonlin", "invlin", "dark"]
        .into_iter()
        .filter(|t| wanted.contains_key(*t))
        .filter(|t| match *t {
            "invlin" => cal.inverse() > 0,
            "dark" => cal.dark_ramp().is_some(),
            _ => true,
        })
        .collect()
}

/// Records each step and why it did not run, and what stands in for references.
fn note_steps(record: &mut Provenance, recipe: &Recipe, plan: &Plan, cal: &Calibration<'_>) {
    record.warnings.extend(cal.warnings.iter().cloned());
    record.defaults.extend(cal.defaults.iter().map(|(name, value)| format!("{name} = {value}")));
    for step in &recipe.steps {
        let left = plan.left_out.iter().find(|(name, _)| *name == step.name());
        // Of one file alone, nobody expects to know what came before it.
        let expected = recipe.steps.len() > 1 && matches!(step.name(), "persistence" | "parse_subarray_map");
        if let Some((name, why)) = left
            && !step.skip()
            && !expected
        {
            record.warnings.push(format!("{name} skipped: {why}"));
        }
        record.step(step, if step.skip() || left.is_some() { Status::Skipped } else { Status::Complete });
    }
}

/// The ramp's keywords with what stage 1 found before the fit.
fn describe(ramp: &Ramp, stream: &Stream<'_>, windows: Option<&[u32]>, glow: Option<&Found>) -> Header {
    let mut header = ramp.header.clone();
    // As the array has them, under our names: JWST's NGROUPS counts reads.
    header.set("NGROUPS", ramp.ramps, "ramps (reset to reset)");
    header.set("NREADS", ramp.reads, "reads a ramp");
    if let Some(report) = stream.offsets {
        report.describe(&mut header, ramp);
    }
    if let Some(factor) = stream.calibration().amplification() {
        let rounded = format!("{factor:.6}").parse::<f64>().unwrap_or(factor);
        header.set(IPC_NOISE, rounded, "what ipc makes of the variance of a read");
    }
    if let Some(pixels) = windows {
        header.set("NGUIDE", pixels.len(), "pixels of guide windows, masked");
    }
    if let Some(found) = glow {
        header.set("NPERSIST", found.pixels, "pixels that saturated shortly before");
        header.set("NPEREXP", found.history.len(), "earlier exposures looked at");
        found.history.iter().for_each(|line| header.history(line));
    }
    header
}

/// The seconds that counts over the ramp span, all ramps together, noted in the header
/// with how they were sampled; `None` where a rate is asked for.
fn counts_over(fit: &RampFit, ramp: &Ramp, header: &mut Header) -> Option<f64> {
    if fit.units != RateUnits::OverRamp {
        return None;
    }
    // As the kernel has it: no more than half of the reads at each end.
    let coadd = (fit.num_coadd as usize).min(ramp.reads / 2);
    let (line, mode) = match fit.algorithm {
        Algorithm::Cds => (Line::Mcds { coadd: 1 }, "CDS"),
        Algorithm::Mcds => (Line::Mcds { coadd }, "MCDS"),
        _ => (Line::Ols, "UTR"),
    };
    let span = ramp.times.chunks(ramp.reads).map(|times| Counts::new(line, times).span).sum();
    header.set("SAMPMODE", mode, "how reads became counts");
    if mode == "MCDS" {
        header.set("NCOADD", coadd, "reads averaged at each end");
    }
    header.set(RAMPSPAN, span, "s that DATA is counts over, all ramps");
    Some(span)
}

/// Writes the ramp as the steps leave it.
fn store(
    path: Option<&Path>,
    ramp: &Ramp,
    stream: &Stream<'_>,
    (recipe, header, record): (&Recipe, &Header, Provenance),
    engine: &mut dyn Engine,
) -> Result<Made> {
    let path = path.ok_or_else(|| {
        Error::Config(format!("recipe '{}' has no ramp_fit, so it cannot go on to rates", recipe.name))
    })?;
    let about = About {
        input: header,
        model: "RampModel",
        level: 0,
        unit: "",
        wcs: None,
        provenance: &record,
        extra: None,
    };
    let path = ramp_file::write(path, &about, ramp, stream.calibration(), stream, engine)?;
    Ok(Made::Written(vec![path], record.warnings))
}

//! `quicklook`: a picture of a file, and what can be measured in it at a glance.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::Quicklook;
use super::exit::Exit;
use super::{options, print};
use crate::config::Instrument;
use crate::error::{Error, Result};
use crate::fits::Header;
use crate::quicklook::picture::{self, Canvas, Panel, Words, number};
use crate::quicklook::show::{self, Content};
use crate::quicklook::smooth::{along, smoothed};
use crate::quicklook::stars::{self, Field, Optics};
use crate::quicklook::{Cuts, Flagged, Meaning, Measured, Plane, Shown, ds9};
use crate::words::counted;

/// A file as it is shown.
struct Look {
    path: PathBuf,
    shown: Shown,
    plane: Plane,
    measured: Option<Measured>,
    /// Instead, where what is shown are flags.
    flagged: Option<Flagged>,
    scale: Option<f64>,
}

/// Runs `quicklook`.
pub(super) fn quicklook(args: &Quicklook) -> Result<Exit> {
    let instrument = options::instrument(args.instrument.as_deref())?;
    args.output.as_deref().map_or(Ok(()), print::spare)?;
    let mut looks = Vec::new();
    for path in &args.files {
        looks.push(look(path, args, &instrument)?);
    }
    sort(&mut looks, &instrument);
    let Some(first) = looks.first() else { return Ok(Exit::Nothing) };
    let canvas = match (&args.spectrum, &args.line) {
        (Some(text), _) => spectrum(first, text, args)?,
        (None, Some(text)) => line(first, text)?,
        (None, None) => planes(&looks, args)?,
    };
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(first.path.file_stem().unwrap_or_default()).with_extension("png"));
    canvas.write(&output)?;
    let stars = looks.iter().map(|l| star_at(l, args)).collect::<Result<Vec<_>>>()?;
    if args.json {
        let files: Vec<Value> = looks.iter().zip(&stars).map(|(l, s)| in_json(l, s.as_ref())).collect();
        print::json(&json!({ "picture": output, "files": files }))?;
    } else {
        for (look, star) in looks.iter().zip(&stars) {
            print::out(&in_words(look, star.as_ref()))?;
        }
        print::out(&format!("picture: {}\n", output.display()))?;
    }
    if args.ds9 {
        // Whatever else was asked for is done.
        if let Err(e) = looks.iter().try_for_each(|l| ds9::show(&l.path)) {
            print::note(&format!("warning: {e}"));
        }
    }
    Ok(Exit::Done)
}

fn look(path: &Path, args: &Quicklook, instrument: &Instrument) -> Result<Look> {
    let shown = Shown::open(path, args.extension.as_deref(), instrument)?;
    let shown_channels = channels(&shown, args, path)?;
    let plane = shown.plane(args.how(), shown_channels.clone());
    let scale = show::pixel_scale(&shown.header);
    let typed = args.wavelength.filter(|_| shown.cube().is_none());
    let optics = scale.zip(instrument.pupil).zip(typed.or_else(|| show::band_centre(&shown.header)));
    let optics = optics.map(|((scale, pupil), wavelength)| Optics {
        diameter: pupil.diameter,
        obstruction: pupil.obstruction,
        wavelength,
        scale,
    });
    // A cube's lenslets are too coarse, and a raw ramp's counts neither flat nor linear enough,
    // for a ratio.
    let optics = optics.filter(|o| {
        shown.cube().is_none()
            && shown.made.is_empty()
            && o.scale < 0.5 * o.wavelength * 1e-6 / o.diameter * 206_264.8
    });
    let region = args.region.as_deref().map(|text| corners(&plane, text)).transpose()?;
    let part = region.as_ref().map(|(x, y)| cut_out(&plane, x, y));
    let part = part.as_ref().unwrap_or(&plane);
    let (mut measured, mut flagged) = (None, None);
    match &shown.meaning {
        Meaning::Light => measured = Measured::of(part, optics.as_ref()),
        Meaning::Number => measured = Measured::without_stars(part),
        Meaning::Flags(flags) => flagged = Some(Flagged::of(flags, &plane, region, shown_channels)),
    }
    Ok(Look { path: path.to_path_buf(), shown, plane, measured, flagged, scale })
}

/// The channels that are shown of a cube.
fn channels(shown: &Shown, args: &Quicklook, path: &Path) -> Result<Option<RangeInclusive<usize>>> {
    let Content::Cube(cube) = &shown.content else {
        if args.slice.is_some() || args.channels.is_some() || args.spectrum.is_some() {
            return Err(Error::Usage(format!("{} is no cube: it has no channels", path.display())));
        }
        if args.collapse.is_some() {
            return Err(Error::Usage(format!(
                "--collapse puts the channels of a cube together, and {} is no cube: leave it out",
                path.display()
            )));
        }
        return Ok(None);
    };
    let one = |k: usize| -> Result<Option<RangeInclusive<usize>>> {
        if k < cube.nw {
            Ok(Some(k..=k))
        } else {
            Err(Error::Usage(format!("the cube has {} channels", cube.nw)))
        }
    };
    let alone = if args.slice.is_some() { Some("--slice") } else { args.wavelength.map(|_| "--wavelength") };
    if let (Some(alone), Some(_)) = (alone, args.collapse) {
        return Err(Error::Usage(format!(
            "{alone} shows one channel of {}, of which --collapse has nothing to put together: leave one of them out, \
             or give --channels FROM,TO",
            path.display()
        )));
    }
    if let Some(k) = args.slice {
        return one(k as usize - 1);
    }
    if let Some(wavelength) = args.wavelength {
        let ends = [cube.wavelength.first(), cube.wavelength.last()].map(|w| w.copied().unwrap_or(0.0));
        return one(show::channel(cube, wavelength).ok_or_else(|| {
            Error::Usage(format!(
                "--wavelength {wavelength}: the cube has {:.4} to {:.4} um",
                ends[0], ends[1]
            ))
        })?);
    }
    let Some(text) = &args.channels else { return Ok(None) };
    match numbers(text, "--channels FROM,TO")?.as_slice() {
        [from, to] if *from >= 1.0 && from <= to && *to <= cube.nw as f64 => {
            Ok(Some(*from as usize - 1..=*to as usize - 1))
        }
        _ => Err(Error::Usage(format!("--channels {text}: give FROM,TO within 1 and {}", cube.nw))),
    }
}

fn numbers(text: &str, form: &str) -> Result<Vec<f64>> {
    let parse = |part: &str| part.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    text.split(',')
        .map(|part| parse(part).ok_or_else(|| Error::Usage(format!("'{text}': give {form}"))))
        .collect()
}

/// The columns and rows of `--region`, from 0.
fn corners(plane: &Plane, text: &str) -> Result<(Range<usize>, Range<usize>)> {
    let form = "--region X1,Y1,X2,Y2";
    let corners = numbers(text, form)?;
    let [x1, y1, x2, y2] = corners.as_slice() else {
        return Err(Error::Usage(format!("'{text}': give {form}")));
    };
    let inside =
        *x1 >= 1.0 && *y1 >= 1.0 && x1 <= x2 && y1 <= y2 && *x2 <= plane.nx as f64 && *y2 <= plane.ny as f64;
    if !inside {
        let (nx, ny) = (plane.nx, plane.ny);
        return Err(Error::Usage(format!("--region {text}: it must lie within 1,1,{nx},{ny}")));
    }
    Ok((*x1 as usize - 1..*x2 as usize, *y1 as usize - 1..*y2 as usize))
}

fn cut_out(plane: &Plane, x: &Range<usize>, y: &Range<usize>) -> Plane {
    let values = y.clone().flat_map(|j| plane.values[j * plane.nx..][x.clone()].to_vec()).collect();
    Plane { nx: x.len(), ny: y.len(), values }
}

/// Several detectors in their order on the sky: where the instrument says where they
/// stand, rows from north to south and in each as the sky is seen; else by name.
fn sort(looks: &mut [Look], instrument: &Instrument) {
    let offset = |l: &Look| {
        let detector = l.shown.header.text("DETECTOR").unwrap_or_default();
        instrument.imager.offsets.get(&detector).copied()
    };
    if looks.len() > 1 && looks.iter().all(|l| offset(l).is_some()) {
        let key = |l: &Look| {
            let [east, north] = offset(l).unwrap_or_default();
            ((-north * 0.5).round(), east * instrument.imager.parity)
        };
        looks.sort_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
    } else if looks.len() > 1 {
        looks.sort_by_key(|l| l.shown.header.text("DETECTOR").unwrap_or_default());
    }
}

/// Object, filter and time.
fn facts(header: &Header) -> [Option<String>; 3] {
    let text = |key: &str| header.text(key).filter(|t| !t.is_empty() && t != "NONE");
    [text("OBJECT"), text("FILTER"), header.number("EXPTIME").map(|t| format!("{} s", number(t)))]
}

/// The first one's name, and the facts that all share.
fn title(looks: &[Look]) -> String {
    let [first, others @ ..] = looks else { return String::new() };
    let mut name = first.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !others.is_empty() {
        name += &format!(" and {} more", others.len());
    }
    let mut shared = facts(&first.shown.header);
    for other in others {
        let theirs = facts(&other.shown.header);
        shared.iter_mut().zip(theirs).filter(|(own, their)| **own != *their).for_each(|(own, _)| *own = None);
    }
    [Some(name)].into_iter().chain(shared).flatten().collect::<Vec<_>>().join("  ")
}

fn planes(looks: &[Look], args: &Quicklook) -> Result<Canvas> {
    let drawn = |l: &Look| args.smooth.map_or_else(|| l.plane.clone(), |fwhm| smoothed(&l.plane, fwhm));
    let drawn: Vec<Plane> = looks.iter().map(drawn).collect();
    let values: Vec<f32> = drawn.iter().flat_map(|p| p.values.iter().copied()).collect();
    let cuts = match &args.cut {
        Some(text) => Cuts::parse(text, &values)?,
        None => Cuts::of(&values),
    };
    let several = looks.len() > 1;
    let panel = |(l, plane): (&Look, &Plane)| Panel {
        plane: plane.fitted(args.size as usize),
        label: if several { l.shown.header.text("DETECTOR").unwrap_or_default() } else { String::new() },
    };
    let first = &looks[0];
    let mut notes = vec![format!(
        "{} from {} to {}; without a value: light grey",
        args.stretch.word(),
        number(cuts.low),
        number(cuts.high)
    )];
    let smooth =
        args.smooth.map_or(String::new(), |f| format!("smoothed by a Gaussian of {} pixels FWHM", number(f)));
    let what = [first.shown.made.to_owned(), collapsed(first, args)?, smooth];
    notes.extend(what.into_iter().filter(|w| !w.is_empty()));
    for (look, m) in looks.iter().filter_map(|l| Some((l, l.measured.as_ref()?))) {
        let (s, name) = (&m.stats, look.shown.header.text("DETECTOR").unwrap_or_default());
        let of = if several { format!("{name}: ") } else { String::new() };
        let (median, sigma) = (number(s.median), number(s.clipped_sigma));
        notes.push(format!("{of}median {median}, sigma {sigma}, {} bad", s.bad));
        if !several {
            notes.extend(sharpness(m, look.scale));
        }
    }
    notes.extend(first.flagged.iter().filter(|_| !several).map(Flagged::words));
    let words = Words {
        title: title(looks),
        notes,
        unit: first.shown.unit.clone(),
        compass: show::north_and_east(&first.shown.header),
    };
    let panels: Vec<Panel> = looks.iter().zip(&drawn).map(panel).collect();
    Ok(picture::planes(
        &panels,
        looks.len().isqrt() + usize::from(looks.len().isqrt().pow(2) < looks.len()),
        &cuts,
        args.stretch,
        &words,
    ))
}

/// What was done with a cube's channels, in words.
fn collapsed(look: &Look, args: &Quicklook) -> Result<String> {
    let Some(cube) = look.shown.cube() else { return Ok(String::new()) };
    let range = channels(&look.shown, args, &look.path)?.unwrap_or(0..=cube.nw.saturating_sub(1));
    let um = |k: &usize| cube.wavelength.get(*k).map_or(String::new(), |w| format!("{w:.5}"));
    let (a, b) = (range.start(), range.end());
    Ok(if a == b {
        format!("channel {} of {}: {} um", a + 1, cube.nw, um(a))
    } else {
        format!("{} of channels {} to {}: {} to {} um", args.how().word(), a + 1, b + 1, um(a), um(b))
    })
}

fn spectrum(look: &Look, text: &str, args: &Quicklook) -> Result<Canvas> {
    let cube = look.shown.cube().ok_or_else(|| Error::Usage("--spectrum: the file is no cube".into()))?;
    let at = numbers(text, "--spectrum X,Y[,R]")?;
    let (x, y, r) = match at.as_slice() {
        [x, y] => (*x, *y, 0.0),
        [x, y, r] if *r >= 0.0 => (*x, *y, *r),
        _ => return Err(Error::Usage(format!("--spectrum {text}: give X,Y or X,Y,R"))),
    };
    if !(1.0..=cube.nx as f64).contains(&x) || !(1.0..=cube.ny as f64).contains(&y) {
        return Err(Error::Usage(format!(
            "--spectrum {text}: the cube has {} x {} spaxels",
            cube.nx, cube.ny
        )));
    }
    let values = show::spectrum(cube, args.how(), x - 1.0, y - 1.0, r);
    let of = if r > 0.0 {
        format!("{} within {r} spaxels of ({x}, {y})", args.how().word())
    } else {
        format!("spaxel ({x}, {y})")
    };
    let words = Words {
        title: format!("{}  {of}", title(std::slice::from_ref(look))),
        unit: look.shown.unit.clone(),
        ..Words::default()
    };
    Ok(picture::curve(&cube.wavelength, &values, "um", &words))
}

/// The values along a line of the image.
fn line(look: &Look, text: &str) -> Result<Canvas> {
    let form = "--line X1,Y1,X2,Y2[,WIDTH]";
    let ends = numbers(text, form)?;
    let (nx, ny) = (look.plane.nx as f64, look.plane.ny as f64);
    let (from, to, width) = match ends.as_slice() {
        [x1, y1, x2, y2] => ([*x1, *y1], [*x2, *y2], 1.0),
        [x1, y1, x2, y2, w] if *w >= 1.0 && *w <= nx.max(ny) => ([*x1, *y1], [*x2, *y2], *w),
        _ => return Err(Error::Usage(format!("'{text}': give {form}, WIDTH from 1 on"))),
    };
    let inside = |[x, y]: [f64; 2]| (1.0..=nx).contains(&x) && (1.0..=ny).contains(&y);
    if from == to {
        return Err(Error::Usage(format!("--line {text}: its ends are one point")));
    }
    if !(inside(from) && inside(to)) {
        return Err(Error::Usage(format!("--line {text}: both ends must lie within 1,1 and {nx},{ny}")));
    }
    let less = |[x, y]: [f64; 2]| [x - 1.0, y - 1.0];
    let (distances, values) = along(&look.plane, less(from), less(to), width as usize);
    let across = if width > 1.0 { format!(", mean of {width} pixels across") } else { String::new() };
    let words = Words {
        title: format!(
            "{}  ({}, {}) to ({}, {}){across}",
            title(std::slice::from_ref(look)),
            from[0],
            from[1],
            to[0],
            to[1]
        ),
        unit: look.shown.unit.clone(),
        ..Words::default()
    };
    Ok(picture::curve(&distances, &values, "pixels", &words))
}

fn star_at(look: &Look, args: &Quicklook) -> Result<Option<stars::Star>> {
    let Some(text) = &args.at else { return Ok(None) };
    let at = numbers(text, "--at X,Y")?;
    let [x, y] = at.as_slice() else { return Err(Error::Usage(format!("--at {text}: give X,Y"))) };
    let field = Field { nx: look.plane.nx, values: &look.plane.values };
    let star = stars::at(&field, x - 1.0, y - 1.0);
    star.map(Some).ok_or_else(|| {
        Error::input(&look.path, format!("has no star within 5 pixels of {x}, {y} that a profile fits"))
    })
}

/// Width, depth and Strehl ratio in words.
fn sharpness(m: &Measured, scale: Option<f64>) -> Vec<String> {
    let mut out = Vec::new();
    let Some(stars) = m.stars else { return out };
    let mas =
        |pixels: f64| scale.map_or(String::new(), |s| format!(" ({} mas)", number(1000.0 * s * pixels)));
    match m.fwhm {
        Some(f) => {
            let spread = m.fwhm_spread.map_or(String::new(), |s| format!(" +- {}", number(s)));
            out.push(format!("{}: FWHM {}{spread} pixels{}", counted(stars, "star"), number(f), mas(f)));
        }
        None => out.push("no star stands out".into()),
    }
    if let (Some(depth), Some(f)) = (m.depth, m.depth_fwhm) {
        out.push(format!("a star of 5 sigma: {} (FWHM {} pixels)", number(depth), number(f)));
    }
    if let Some(s) = m.strehl {
        out.push(format!("Strehl ratio {s:.2} ({}, annular pupil)", counted(m.strehl_stars, "star")));
    }
    if let Some(s) = m.strehl_above_1 {
        out.push(format!(
            "no Strehl ratio: {} would have {s:.2}, and none is above 1: is the wavelength, the pixel scale or the background wrong?",
            counted(m.strehl_stars, "star")
        ));
    }
    out
}

fn in_words(look: &Look, star: Option<&stars::Star>) -> String {
    let name = look.path.display();
    let unit = &look.shown.unit;
    let mut text = format!("{name}: {} x {}", look.plane.nx, look.plane.ny);
    if !unit.is_empty() {
        text += &format!(", {unit}");
    }
    if let Some([n, e]) = show::north_and_east(&look.shown.header) {
        text += &format!("; north {n:.1} and east {e:.1} degrees counter-clockwise from right");
    }
    text += "\n";
    if let Some(flagged) = &look.flagged {
        return text + &format!("  {}{}\n", flagged.words(), flagged.of_each());
    }
    let Some(m) = &look.measured else { return text + "  no pixel has a value\n" };
    let s = &m.stats;
    text += &format!(
        "  min {} max {} mean {} median {} std {}\n  clipped mean {} sigma {}; {}, {} bad\n",
        number(s.min),
        number(s.max),
        number(s.mean),
        number(s.median),
        number(s.std),
        number(s.clipped_mean),
        number(s.clipped_sigma),
        counted(s.pixels, "pixel"),
        s.bad
    );
    for line in sharpness(m, look.scale) {
        text += &format!("  {line}\n");
    }
    if let Some(s) = star {
        text += &format!(
            "  star at {:.3}, {:.3}: FWHM {} pixels, ellipticity {:.3}, peak {}, flux {}, on {}\n",
            s.x + 1.0,
            s.y + 1.0,
            number(s.fwhm),
            s.ellipticity,
            number(s.peak),
            number(s.flux),
            number(s.background)
        );
    }
    text
}

fn in_json(look: &Look, star: Option<&stars::Star>) -> Value {
    let star = star.map(|s| {
        json!({"x": s.x + 1.0, "y": s.y + 1.0, "fwhm": s.fwhm, "ellipticity": s.ellipticity, "peak": s.peak, "flux": s.flux, "background": s.background})
    });
    let directions = show::north_and_east(&look.shown.header);
    json!({
        "file": look.path,
        "size": [look.plane.nx, look.plane.ny],
        "unit": look.shown.unit,
        "shown": look.shown.made,
        "pixel_scale": look.scale,
        "north": directions.map(|d| d[0]),
        "east": directions.map(|d| d[1]),
        "measured": look.measured,
        "flags": look.flagged.as_ref().map(Flagged::json),
        "star": star,
    })
}

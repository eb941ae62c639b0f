use super::*;
use crate::kernels::ramp::flag::{JUMP_DET, SATURATED};
use crate::kernels::stored_tests::cases;

/// stcal's flags of reads and ours, `[read][pixel]`, of one ramp.
fn flagged(step: &Jump, shape: Shape, given: &[u32]) -> (Vec<u32>, Marked) {
    let n = shape.ny * shape.nx;
    let first = |p: usize| (0..shape.reads).find(|k| given[k * n + p] & SATURATED != 0);
    let mut saturated = vec![(0..n).map(|p| first(p).map_or(u16::MAX, |k| k as u16)).collect::<Vec<u16>>()];
    let jumps = |k: usize| (0..n as u32).filter(|p| given[k * n + *p as usize] & JUMP_DET != 0).collect();
    let marked = super::flag(step, shape, &jumps, &mut saturated);
    let mut flags = given.to_vec();
    for (p, from) in &marked.saturated {
        (*from as usize..shape.reads).for_each(|k| flags[k * n + *p as usize] = SATURATED);
    }
    for (p, k) in &marked.jumps {
        flags[*k as usize * n + *p as usize] |= JUMP_DET;
    }
    (flags, marked)
}

#[test]
fn stcals_snowballs_are_met_but_for_their_rim() {
    for case in cases(include_str!("../../../testdata/oracle/snowball.json")) {
        let size = case.shape("in_groupdq");
        let shape = Shape { ramps: 1, reads: size[1], ny: size[2], nx: size[3], step: 1.0 };
        let step = Jump {
            expand_large_events: true,
            min_jump_area: case.number("min_jump_area"),
            min_sat_area: case.number("min_sat_area"),
            expand_factor: case.number("expand_factor"),
            sat_required_snowball: case.is("sat_required"),
            min_sat_radius_extend: case.number("min_sat_radius_extend"),
            sat_expand: case.number("sat_expand") as u32,
            edge_size: case.number("edge_size") as u32,
            ..Jump::default()
        };
        let given: Vec<u32> = case.array("in_groupdq").iter().map(|v| *v as u32).collect();
        let expected: Vec<u32> = case.array("out_groupdq").iter().map(|v| *v as u32).collect();
        let (flags, marked) = flagged(&step, shape, &given);
        let differing = flags.iter().zip(&expected).filter(|(a, b)| a != b).count();
        // Pixels exactly on the rim: rounding says whether they are in.
        let all = expected.iter().filter(|f| **f != 0).count();
        assert!(differing * 100 < all, "{}: {differing} of {all}", case.id);
        assert_eq!(marked.events, usize::from(case.id.contains("_core")), "{}", case.id);
    }
}

/// A core whose four tips lie on the circle of radius 3 that is drawn for it: stcal 1.20.0
/// takes them, as the angle of the ellipse is rounded.
#[test]
fn pixels_on_the_rim_are_stcals() {
    let (ny, nx) = (100usize, 100);
    let rows: [(usize, std::ops::RangeInclusive<usize>); 5] =
        [(33, 86..=87), (34, 84..=88), (35, 84..=88), (36, 84..=88), (37, 85..=86)];
    let pixels: Vec<u32> = rows.into_iter().flat_map(|(y, x)| x.map(move |x| (y * nx + x) as u32)).collect();
    let core = regions(&pixels, nx, 1.0)[0];
    assert_eq!((core.centre, pixels.len()), ([35.0, 86.0], 19));
    let drawn = core.drawn(core.major + 2.0, core.minor + 2.0, ny, nx);
    assert_eq!(drawn.len(), 29);
    for (y, x) in [(32, 86), (38, 86), (35, 83), (35, 89)] {
        assert!(drawn.contains(&(y * nx + x)), "{y} {x}");
    }
}

fn disc(centre: [f64; 2], axes: [f64; 2], turn: f64, ny: usize, nx: usize) -> Vec<u32> {
    let inside = |p: &u32| {
        let [dy, dx] = [(*p as usize / nx) as f64 - centre[0], (*p as usize % nx) as f64 - centre[1]];
        let (u, v) = (dy * turn.cos() + dx * turn.sin(), dy * turn.sin() - dx * turn.cos());
        (u / axes[0]).powi(2) + (v / axes[1]).powi(2) <= 1.0
    };
    (0..(ny * nx) as u32).filter(inside).collect()
}

#[test]
fn an_ellipse_is_recognised_and_drawn_as_it_is() {
    let (ny, nx) = (61, 47);
    for turn in [0.0, 0.4, 1.2, 2.0] {
        let pixels = disc([30.0, 22.0], [12.0, 6.0], turn, ny, nx);
        let found = regions(&pixels, nx, 5.0);
        assert_eq!(found.len(), 1);
        let e = found[0];
        assert!((e.centre[0] - 30.0).abs() < 0.2 && (e.centre[1] - 22.0).abs() < 0.2);
        assert!((e.major - 23.0).abs() < 0.7 && (e.minor - 11.0).abs() < 0.7, "{e:?}");
        // Drawn, it covers what it was made of, a rim of one pixel apart.
        let drawn: BTreeSet<usize> = e.drawn(e.major + 1.0, e.minor + 1.0, ny, nx).into_iter().collect();
        let missing = pixels.iter().filter(|p| !drawn.contains(&(**p as usize))).count();
        assert!(missing * 8 < pixels.len() && drawn.len() * 10 < pixels.len() * 11, "{turn}: {missing}");
    }
}

#[test]
fn holes_count_and_corners_touch() {
    let nx = 9;
    // A ring of 8 around a hole; a pixel at its corner; a pixel alone.
    let mut pixels: Vec<u32> = [10, 11, 12, 19, 21, 28, 29, 30, 40, 44].to_vec();
    pixels.sort_unstable();
    assert_eq!(regions(&pixels, nx, 9.5).len(), 1);
    assert_eq!(regions(&pixels, nx, 10.5).len(), 0);
    assert_eq!(regions(&pixels, nx, 1.0).len(), 2);
}

#[test]
fn the_core_is_flagged_in_the_next_ramp_for_its_time() {
    let shape = Shape { ramps: 2, reads: 5, ny: 40, nx: 40, step: 10.0 };
    let step = Jump {
        expand_large_events: true,
        edge_size: 0,
        snowball_time_masked_next_int: 30.0,
        ..Jump::default()
    };
    let core = disc([20.0, 20.0], [4.0, 4.0], 0.0, 40, 40);
    let ring: Vec<u32> =
        disc([20.0, 20.0], [7.0, 7.0], 0.0, 40, 40).into_iter().filter(|p| !core.contains(p)).collect();
    let mut saturated = vec![vec![u16::MAX; 1600]; 2];
    core.iter().for_each(|p| saturated[0][*p as usize] = 2);
    let jumps = |k: usize| if k == 2 { ring.clone() } else { Vec::new() };
    let marked = super::flag(&step, shape, &jumps, &mut saturated);
    assert_eq!(marked.events, 1);
    let centre = 20 * 40 + 20;
    // Reads 1 and 2 of the second ramp, as stcal counts 30 s of 10 s reads.
    let next: Vec<u32> =
        marked.jumps.iter().filter(|(p, k)| *p == centre && *k >= 5).map(|(_, k)| *k).collect();
    assert_eq!(next, [6, 7]);
    // Halo at the event's read only, and not in the core.
    assert!(marked.jumps.contains(&(20 * 40 + 30, 2)) && !marked.jumps.contains(&(20 * 40 + 30, 3)));
    assert!(!marked.jumps.contains(&(centre, 2)));
    // Without a core there is no snowball, but near the edge.
    let none = &mut [vec![u16::MAX; 1600], vec![u16::MAX; 1600]];
    assert_eq!(super::flag(&step, shape, &jumps, none).events, 0);
    let edge = Jump { edge_size: 21, ..step.clone() };
    assert_eq!(super::flag(&edge, shape, &jumps, none).events, 1);
    let free = Jump { sat_required_snowball: false, ..step };
    assert_eq!(super::flag(&free, shape, &jumps, none).events, 1);
}

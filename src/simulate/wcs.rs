//! Where the telescope points: sky to pixels and back, gnomonic (TAN).
//!
//! PA is the position angle of the detector's +y axis, degrees east of north.
//! With parity −1 east is left when north is up. A pixel offset (dx, dy) from the
//! pointing lies at ξ (east) = s (p dx cos PA + dy sin PA),
//! η (north) = s (−p dx sin PA + dy cos PA), s the scale, p the parity.

use crate::fits::Header;

/// A pointing of one detector.
#[derive(Debug, Clone, PartialEq)]
pub struct Wcs {
    /// Pointing, degrees (ICRS).
    pub ra: f64,
    /// Pointing, degrees (ICRS).
    pub dec: f64,
    /// Position angle of +y, degrees east of north.
    pub pa: f64,
    /// Arcsec a pixel.
    pub scale: f64,
    /// +1 or −1.
    pub parity: f64,
    /// The pixel (x, y), from 0, that the pointing falls on.
    pub reference: [f64; 2],
}

impl Wcs {
    /// A detector of `nx` × `ny` whose centre lies `offset` arcsec (east, north at
    /// PA 0) from the pointing.
    pub fn detector(pointing: [f64; 3], scale: f64, parity: f64, size: [usize; 2], offset: [f64; 2]) -> Wcs {
        let [ra, dec, pa] = pointing;
        let centre = [(size[0] as f64 - 1.0) / 2.0, (size[1] as f64 - 1.0) / 2.0];
        // At PA 0, east is parity · x and north is y; the offset turns with the instrument.
        let reference = [centre[0] - parity * offset[0] / scale, centre[1] - offset[1] / scale];
        Wcs { ra, dec, pa, scale, parity, reference }
    }

    /// (dξ/dx, dξ/dy, dη/dx, dη/dy), degrees a pixel: CD1_1, CD1_2, CD2_1, CD2_2.
    pub fn cd(&self) -> [f64; 4] {
        let s = self.scale / 3600.0;
        let (sin, cos) = self.pa.to_radians().sin_cos();
        [s * self.parity * cos, s * sin, -s * self.parity * sin, s * cos]
    }

    /// Pixel (x, y), from 0, of standard coordinates in arcsec (east, north).
    pub fn pixel_of_offset(&self, east: f64, north: f64) -> [f64; 2] {
        let (sin, cos) = self.pa.to_radians().sin_cos();
        let dx = self.parity * (east * cos - north * sin) / self.scale;
        let dy = (east * sin + north * cos) / self.scale;
        [self.reference[0] + dx, self.reference[1] + dy]
    }

    /// Pixel (x, y), from 0, of a place on the sky; `None` more than 90° away.
    pub fn pixel(&self, ra: f64, dec: f64) -> Option<[f64; 2]> {
        let (sd, cd) = dec.to_radians().sin_cos();
        let (s0, c0) = self.dec.to_radians().sin_cos();
        let (sa, ca) = (ra - self.ra).to_radians().sin_cos();
        let d = sd * s0 + cd * c0 * ca;
        let arcsec = 3600.0 * 180.0 / std::f64::consts::PI;
        (d > 0.0).then(|| self.pixel_of_offset(arcsec * cd * sa / d, arcsec * (sd * c0 - cd * s0 * ca) / d))
    }

    /// RA and DEC, degrees, of pixel (x, y), from 0.
    pub fn sky(&self, x: f64, y: f64) -> [f64; 2] {
        let cd = self.cd();
        let (dx, dy) = (x - self.reference[0], y - self.reference[1]);
        let xi = (cd[0] * dx + cd[1] * dy).to_radians();
        let eta = (cd[2] * dx + cd[3] * dy).to_radians();
        let (s0, c0) = self.dec.to_radians().sin_cos();
        let d = c0 - eta * s0;
        let ra = self.ra + xi.atan2(d).to_degrees();
        let dec = ((s0 + eta * c0) / (xi * xi + d * d).sqrt()).atan().to_degrees();
        [ra.rem_euclid(360.0), dec]
    }

    /// Writes CTYPE, CRVAL, CRPIX (from 1), CD.
    pub fn write(&self, h: &mut Header) {
        h.set("CTYPE1", "RA---TAN", "");
        h.set("CTYPE2", "DEC--TAN", "");
        h.set("CUNIT1", "deg", "");
        h.set("CUNIT2", "deg", "");
        h.set("CRVAL1", self.ra, "pointing");
        h.set("CRVAL2", self.dec, "pointing");
        h.set("CRPIX1", self.reference[0] + 1.0, "from 1");
        h.set("CRPIX2", self.reference[1] + 1.0, "from 1");
        for (name, value) in ["CD1_1", "CD1_2", "CD2_1", "CD2_2"].iter().zip(self.cd()) {
            h.set(name, value, "");
        }
        h.set("RADESYS", "ICRS", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_at_0_90_and_200_degrees() {
        // (PA, where +x points, where +y points), as position angles east of north,
        // with east to the left: +x is 90 degrees west of +y.
        for (pa, x_at, y_at) in [(0.0, 270.0, 0.0), (90.0, 0.0, 90.0), (200.0, 110.0, 200.0)] {
            let w = Wcs::detector([150.0, 20.0, pa], 0.004, -1.0, [512, 512], [9.2, -9.2]);
            let angle = |dx: f64, dy: f64| {
                let [ra, dec] = w.sky(w.reference[0] + dx, w.reference[1] + dy);
                let east = (ra - 150.0) * 20f64.to_radians().cos();
                east.atan2(dec - 20.0).to_degrees().rem_euclid(360.0)
            };
            assert!(
                (angle(100.0, 0.0) - x_at).abs() < 0.01 || (angle(100.0, 0.0) - x_at - 360.0).abs() < 0.01,
                "{pa}: {}",
                angle(100.0, 0.0)
            );
            assert!(((angle(0.0, 100.0) - y_at + 180.0).rem_euclid(360.0) - 180.0).abs() < 0.01);
            let [ra, dec] = w.sky(17.0, 400.0);
            let [x, y] = w.pixel(ra, dec).expect("in front");
            assert!((x - 17.0).abs() < 1e-6 && (y - 400.0).abs() < 1e-6);
        }
    }

    #[test]
    fn detector_offsets_are_east_and_north_at_zero() {
        let w = Wcs::detector([10.0, 0.0, 0.0], 0.004, -1.0, [512, 512], [9.2, -9.2]);
        let [ra, dec] = w.sky(255.5, 255.5);
        assert!(((ra - 10.0) * 3600.0 - 9.2).abs() < 1e-6 && (dec * 3600.0 + 9.2).abs() < 1e-6);
    }
}

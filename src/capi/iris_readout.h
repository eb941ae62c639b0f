/* The readout's three functions for C, in libirisgpu: see docs/readout.md.
 * Made by cbindgen of src/capi/mod.rs: IRISGPU_WRITE_HEADER=1 cargo test --test capi */

#ifndef IRIS_READOUT_H
#define IRIS_READOUT_H

#include <stddef.h>
#include <stdint.h>

/*
 What came of a call.
 */
typedef enum IrisStatus {
  /*
   Done.
   */
  IRIS_STATUS_OK = 0,
  /*
   A pointer is NULL or not aligned.
   */
  IRIS_STATUS_NULL_POINTER = 1,
  /*
   A size is 0 or the array of that many values would be larger than memory.
   */
  IRIS_STATUS_BAD_SIZE = 2,
  /*
   The output has another number of values than the result.
   */
  IRIS_STATUS_OUTPUT_SIZE = 3,
  /*
   Fewer than two reads.
   */
  IRIS_STATUS_TOO_FEW_READS = 4,
  /*
   Times are not finite or do not increase from read to read.
   */
  IRIS_STATUS_BAD_TIMES = 5,
  /*
   num_coadd is 0 or more than half of the reads.
   */
  IRIS_STATUS_BAD_COADD = 6,
  /*
   The frame lies partly outside of the coefficient maps.
   */
  IRIS_STATUS_OUTSIDE_MAPS = 7,
  /*
   A fault of the library itself. The output is not to be used.
   */
  IRIS_STATUS_INTERNAL = 8,
} IrisStatus;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 A sentence for a status (a value of IrisStatus); never NULL, not to be freed.
 */
const char *iris_status_message(int32_t status);

/*
 Up the ramp: the slope of the least-squares line through all reads of a pixel, times
 the time from the first read to the last: counts over the ramp.

 reads: nreads x ny x nx counts, x fastest. times: nreads, in any unit, increasing.
 counts: ncounts = ny x nx results.

 # Safety
 The pointers must be valid for as many values, and counts must not overlap the others.
 */
enum IrisStatus iris_uptheramp(const int32_t *reads,
                               const double *times,
                               size_t nreads,
                               size_t ny,
                               size_t nx,
                               float *counts,
                               size_t ncounts);

/*
 Multiple correlated double sampling: the mean of the last num_coadd reads of a pixel
 less the mean of the first; with num_coadd = 1 correlated double sampling.

 reads: nreads x ny x nx counts, x fastest. num_coadd: at most half of the reads.
 counts: ncounts = ny x nx results.

 # Safety
 The pointers must be valid for as many values, and counts must not overlap reads.
 */
enum IrisStatus iris_mcds(const int32_t *reads,
                          size_t nreads,
                          size_t ny,
                          size_t nx,
                          size_t num_coadd,
                          float *counts,
                          size_t ncounts);

/*
 Non-linearity: y = (1 + c0 + c1 x + c2 x^2 + c3 x^3 + c4 x^4) x of every read x.

 reads: nreads x ny x nx counts, x fastest. c0 to c4: maps of map_ny x map_nx
 coefficients, x fastest; (y0, x0), from 0, is where in the maps the reads' first pixel
 is: (0, 0) for maps of the same frame, the subarray's corner for maps of the detector.
 corrected: ncorrected = nreads x ny x nx results.

 # Safety
 The pointers must be valid for as many values, and corrected must not overlap the others.
 */
enum IrisStatus iris_nonlin_corr(const int32_t *reads,
                                 size_t nreads,
                                 size_t ny,
                                 size_t nx,
                                 const float *c0,
                                 const float *c1,
                                 const float *c2,
                                 const float *c3,
                                 const float *c4,
                                 size_t map_ny,
                                 size_t map_nx,
                                 size_t y0,
                                 size_t x0,
                                 float *corrected,
                                 size_t ncorrected);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* IRIS_READOUT_H */

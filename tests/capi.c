/* What a detector computer's program does with the three functions, and what it must
 * not get away with. Expected values are of the formulas, written out in long double. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iris_readout.h"

static int failures = 0;

#define CHECK(what) \
    do { \
        if (!(what)) { \
            printf("line %d: %s\n", __LINE__, #what); \
            failures++; \
        } \
    } while (0)

static int near(double got, double expected) {
    return fabs(got - expected) <= 1.2e-7 * fabs(expected) + 1e-6;
}

/* The sample of iris_readout: 4 reads of 10 x 10 pixels, 4000 counts more each. */
static void sample(void) {
    int32_t reads[4 * 100];
    double times[4] = {0, 4, 8, 12};
    float counts[100];
    int i;
    for (i = 0; i < 400; i++) reads[i] = i / 100 * 4000;
    CHECK(iris_uptheramp(reads, times, 4, 10, 10, counts, 100) == IRIS_STATUS_OK);
    for (i = 0; i < 100; i++) CHECK(counts[i] == 12000.0f);
    CHECK(iris_mcds(reads, 4, 10, 10, 1, counts, 100) == IRIS_STATUS_OK);
    for (i = 0; i < 100; i++) CHECK(counts[i] == 12000.0f);
    CHECK(iris_mcds(reads, 4, 10, 10, 2, counts, 100) == IRIS_STATUS_OK);
    for (i = 0; i < 100; i++) CHECK(counts[i] == 8000.0f);
}

static uint64_t state = 7;

static int32_t draw(int32_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((state >> 33) % (uint64_t)below);
}

/* A frame that is not square, of more pixels than are summed at a time, its times in
 * uneven milliseconds: their products with counts leave 32 bits. */
static void odd(void) {
    enum { N = 7, NY = 67, NX = 83, P = NY * NX };
    int32_t *reads = malloc(sizeof(int32_t) * N * P);
    float *counts = malloc(sizeof(float) * P);
    double times[N] = {1500, 3000, 4600, 6000, 40000, 91500, 93000};
    int i, k;
    for (k = 0; k < N; k++)
        for (i = 0; i < P; i++) reads[k * P + i] = 900000 + 40000 * k + draw(20000);
    CHECK(iris_uptheramp(reads, times, N, NY, NX, counts, P) == IRIS_STATUS_OK);
    for (i = 0; i < P; i++) {
        long double n = N, sty = 0, st = 0, sy = 0, stt = 0;
        for (k = 0; k < N; k++) {
            long double t = times[k], y = reads[k * P + i];
            sty += t * y, st += t, sy += y, stt += t * t;
        }
        CHECK(near(counts[i], (double)((n * sty - st * sy) / (n * stt - st * st) * (times[N - 1] - times[0]))));
    }
    CHECK(iris_mcds(reads, N, NY, NX, 3, counts, P) == IRIS_STATUS_OK);
    for (i = 0; i < P; i++) {
        double first = 0, last = 0;
        for (k = 0; k < 3; k++) first += reads[k * P + i], last += reads[(N - 1 - k) * P + i];
        CHECK(near(counts[i], (last - first) / 3));
    }
    free(reads);
    free(counts);
}

/* A subarray in maps of a larger detector that is not square either: every pixel its own
 * coefficients, so that neither a transposed map nor another corner goes unseen. */
static void nonlinearity(void) {
    enum { N = 3, NY = 5, NX = 9, MY = 40, MX = 31, Y0 = 11, X0 = 4 };
    int32_t reads[N * NY * NX];
    float maps[5][MY * MX], y[N * NY * NX];
    const double scale[5] = {1e-2, 1e-7, 1e-12, 1e-17, 1e-22};
    int i, k, j;
    for (i = 0; i < N * NY * NX; i++) reads[i] = draw(60000);
    for (j = 0; j < 5; j++)
        for (i = 0; i < MY * MX; i++) maps[j][i] = (float)(scale[j] * (draw(2000) - 1000));
    CHECK(iris_nonlin_corr(reads, N, NY, NX, maps[0], maps[1], maps[2], maps[3], maps[4], MY, MX, Y0, X0, y,
                           N * NY * NX) == IRIS_STATUS_OK);
    for (k = 0; k < N; k++)
        for (i = 0; i < NY * NX; i++) {
            double x = reads[k * NY * NX + i], power = 1, sum = 1;
            for (j = 0; j < 5; j++) {
                sum += maps[j][(Y0 + i / NX) * MX + X0 + i % NX] * power;
                power *= x;
            }
            CHECK(near(y[k * NY * NX + i], sum * x));
        }
    CHECK(iris_nonlin_corr(reads, N, NY, NX, maps[0], maps[1], maps[2], maps[3], maps[4], MY, MX, MY - NY + 1, X0,
                           y, N * NY * NX) == IRIS_STATUS_OUTSIDE_MAPS);
    CHECK(iris_nonlin_corr(reads, N, NY, NX, maps[0], maps[1], maps[2], maps[3], maps[4], MY, MX, Y0, SIZE_MAX, y,
                           N * NY * NX) == IRIS_STATUS_OUTSIDE_MAPS);
    CHECK(iris_nonlin_corr(reads, N, NY, NX, maps[0], NULL, maps[2], maps[3], maps[4], MY, MX, Y0, X0, y,
                           N * NY * NX) == IRIS_STATUS_NULL_POINTER);
}

static void refused(void) {
    int32_t reads[12] = {0};
    double times[3] = {0, 1, 2}, backwards[3] = {0, 2, 1}, nan[3] = {0, 1, NAN}, still[3] = {1, 1, 1};
    float counts[4] = {-1, -1, -1, -1};
    int s;
    CHECK(iris_uptheramp(NULL, times, 3, 2, 2, counts, 4) == IRIS_STATUS_NULL_POINTER);
    CHECK(iris_uptheramp(reads, NULL, 3, 2, 2, counts, 4) == IRIS_STATUS_NULL_POINTER);
    CHECK(iris_uptheramp(reads, times, 3, 2, 2, NULL, 4) == IRIS_STATUS_NULL_POINTER);
    CHECK(iris_uptheramp(reads, times, 3, 2, 2, counts, 3) == IRIS_STATUS_OUTPUT_SIZE);
    CHECK(iris_uptheramp(reads, times, 3, 0, 2, counts, 0) == IRIS_STATUS_BAD_SIZE);
    CHECK(iris_uptheramp(reads, times, 0, 2, 2, counts, 4) == IRIS_STATUS_BAD_SIZE);
    CHECK(iris_uptheramp(reads, times, 3, SIZE_MAX, 2, counts, 4) == IRIS_STATUS_BAD_SIZE);
    CHECK(iris_uptheramp(reads, times, SIZE_MAX / 2, 2, 2, counts, 4) == IRIS_STATUS_BAD_SIZE);
    CHECK(iris_uptheramp(reads, times, 1, 2, 2, counts, 4) == IRIS_STATUS_TOO_FEW_READS);
    CHECK(iris_uptheramp(reads, backwards, 3, 2, 2, counts, 4) == IRIS_STATUS_BAD_TIMES);
    CHECK(iris_uptheramp(reads, nan, 3, 2, 2, counts, 4) == IRIS_STATUS_BAD_TIMES);
    CHECK(iris_uptheramp(reads, still, 3, 2, 2, counts, 4) == IRIS_STATUS_BAD_TIMES);
    CHECK(iris_mcds(reads, 3, 2, 2, 0, counts, 4) == IRIS_STATUS_BAD_COADD);
    CHECK(iris_mcds(reads, 3, 2, 2, 2, counts, 4) == IRIS_STATUS_BAD_COADD);
    CHECK(iris_mcds(reads, 1, 2, 2, 1, counts, 4) == IRIS_STATUS_TOO_FEW_READS);
    CHECK(counts[0] == -1 && counts[3] == -1);
    CHECK(iris_mcds(reads, 3, 2, 2, 1, counts, 4) == IRIS_STATUS_OK && counts[0] == 0);
    for (s = -1; s < 10; s++) CHECK(strlen(iris_status_message(s)) > 3);
}

int main(void) {
    sample();
    odd();
    nonlinearity();
    refused();
    if (failures == 0) printf("all right\n");
    return failures != 0;
}

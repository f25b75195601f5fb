/* SPDX-License-Identifier: Apache-2.0 */
/*
 * screen: a form of an LM head that takes about a third of its bf16 bytes and tells which few rows
 * of it may hold the largest logit, with a proof. exit_head (exit_head.h, `screen`) reads it in
 * place of the head, then the rows that remain of the head itself: its argmax is the full head's.
 *
 * Made once per model from the head W [V,D] and calibration states x [N,D] as the head sees them
 * (after the final norm), each of a level, which is whatever the states of a place have in common:
 * the depth of an exit, say. A level has a mean m. The rows of P are eigenvectors of the pooled
 * covariance, in the order of what their columns of W' = W P^T contribute; s are the standard
 * deviations along them (1 % of the mean variance added; 1 if there is none). W' is stored as
 * blocks (blocks.h): the first columns Q8_0, then Q5_0, then Q4_0, as many of each as
 * bits_per_weight pays for and as cost no more reads of up to 256 columns than one part would, split
 * where the expected error is least. P, s and m are rounded to f32
 * first, and what follows holds for those numbers, whatever they are.
 *
 * With Q_v the stored row v, e_v = P w_v - Q_v, d = x - m, y~ the input that meets the blocks (P d
 * in f32, rounded as in linear.h), every v has
 *
 *   w_v x = w_v m + Q_v y~ + e_v y~ + w_v r,    r = d - P^T y~
 *
 * exactly. w_v m is stored. The columns are parted into up to 8 coarse groups g, and by
 * Cauchy-Schwarz
 *
 *   |e_v y~| <= sum over g of |(e_v s)_g| |(y~ / s)_g|
 *   |w_v r|  <= |w_v| |r|,   |r| <= R |d| + (1 + R) |y~ - P d|,   R >= |I - P^T P|
 *
 * where |(e_v s)_g| and a norm K_v >= |w_v|, |Q_v|, and, of a head in blocks, of what its sums
 * are made of (|d q| + |m| + |d| for each element), are stored as multiples of a unit, rounded up,
 * a byte each.
 * With u = 2^-24 and gamma(n) = n u / (1 - n u), |y~ - P d| is at most what rounding the computed P d
 * moved, which is measured, and gamma(n) |P|_F |d|, which also covers x - m rounded to f32. To
 * |w_v r| comes K_v times what else rounding moves; |x~ - x| is measured, and 0 unless the head is in
 * blocks:
 *
 *   gamma(n) |y~| + 16 u (|m| + |x| + |y~|)    sums of blocks; w_v m; sums of the parts
 *   + gamma(n) |x| + |x~ - x|                  the full head's own logit, as it computes it
 *
 * and 16 u |bias_v| where there is a bias, and 2^-80 for what is subnormal. n = D/8 + 16 is more
 * than the additions that a term goes through in any instruction set: they have 4 lanes at least, or
 * two sums. CUDA adds up to 64 terms of P d and of a head without blocks one after the other, so
 * there n = D/4 + 80. Norms are taken in double, and what comes of them is multiplied by 1 + 2^-16,
 * which is more than f32 loses of a sum of ten terms that are not negative.
 * With b_v their sum, the full head's computed logit lies within b_v of z_v = w_v m + Q_v y~ + bias_v.
 *
 * A calibrated bound replaces the first sum by c sqrt(sum over g of (|(e_v s)_g| |(y~ / s)_g|)^2 /
 * D_g), c standard deviations if errors had no direction. Over the calibration states the worst of
 * |e_v y~| was `worst_ratio` of them, which the builder measures on up to 16 states of all rows, and
 * exn_screen_check reports. It is evidence, no proof.
 *
 * The image is one contiguous run of bytes, in memory as in a file: a header of 4096 bytes, then
 * arrays of numbers alone, each 64-byte aligned from the image's beginning. Nothing in it leads out
 * of bounds: every offset follows from V, D, the levels and the numbers of columns, and is compared.
 * An image whose checksums hold, but whose numbers were made up, makes wrong answers, no stray
 * reads. In memory it begins at a multiple of 64. Numbers are little-endian. CUDA takes the same
 * bytes in device memory: check an image on the CPU, then copy it there.
 *
 * Bytes that a run of exit_head reads of it, once for up to 8 rows: V * (bytes of Q + groups + 1 +
 * 4) + 4 D (D + 2); and rows_read rows of the head for each row of hidden. More rows of hidden read
 * it again for every 8, since what is kept of each is up to 8 V bytes: from about 16 rows on, the head
 * itself, which serves 64 at once, is less to read.
 *
 * These functions are no ops: they take CPU tensors, may allocate, and use the threads of the CPU
 * backend. They may be called from any thread.
 */
#ifndef EXEUNT_SCREEN_H
#define EXEUNT_SCREEN_H

#include <exeunt/blocks.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How exit_head bounds the error of the screening logits. */
enum {
  EXN_SCREEN_PROVEN = 0,    /**< as is proven above */
  EXN_SCREEN_CALIBRATED = 1 /**< by so many standard deviations: likely, not proven */
};

/** What `certified` of exit_head says about a row. */
enum {
  EXN_CERTIFIED_NOT = 0,       /**< the full head was read */
  EXN_CERTIFIED_PROVEN = 1,    /**< without it, by proven bounds */
  EXN_CERTIFIED_CALIBRATED = 2 /**< without it, by calibrated bounds: likely, not proven */
};

typedef struct exn_screen_params {
  uint64_t struct_size;   /**< sizeof(exn_screen_params) */
  const DLTensor* weight; /**< in, [V,D], f32 | f16 | bf16, or blocks (u8, weight_blocks),
                               last stride 1; 1 <= V < 2^31, 1 <= D <= 16384, finite. May be null
                               for exn_screen_check */
  const DLTensor* states; /**< in, [N,D], f32, last stride 1, finite; N >= D + level_count, each
                               level at least one. For exn_screen_build alone */
  const DLTensor* levels; /**< in, optional, [N], i32, compact, entries in 0..level_count-1; left
                               out, all states are of level 0. For exn_screen_build alone */
  const DLTensor* image;  /**< u8, compact: out, [bytes] of exn_screen_size for exn_screen_build; in
                               for exn_screen_check; not looked at by exn_screen_size */
  int32_t weight_blocks;  /**< EXN_BLOCKS_NONE, or what blocks the rows of weight are made of */
  int32_t level_count;    /**< 1..1024; exn_screen_check: 0, or as many as the image must have */
  float bits_per_weight;  /**< of Q, scales included: 4.5..8.5, or 0, which means 5; D is rounded up
                               to a multiple of 32, the bits down to whole blocks */
  int32_t header_only;    /**< exn_screen_check: 1 to look at the header alone, which is all that
                               keeps a run in bounds; 0 to look at everything. Elsewhere 0 */
} exn_screen_params;

/** What an image says about itself. */
typedef struct exn_screen_info {
  int64_t vocabulary;    /**< V */
  int64_t dim;           /**< D */
  int64_t bytes;         /**< of the image */
  int64_t states;        /**< N of the calibration */
  int32_t level_count;   /**< levels */
  int32_t groups;        /**< coarse groups */
  float bits_per_weight; /**< of Q */
  float worst_ratio;     /**< see above: the calibrated bound's evidence */
} exn_screen_info;

/** Bytes of the image: a function of weight's shape, level_count and bits_per_weight. */
EXN_API exn_status exn_screen_size(const exn_screen_params* params, size_t* bytes);

/**
 * Makes the image. Takes N D^2 and 10 D^3 operations in double and V D^2 in f32, on all threads:
 * seconds for V 262144, D 640. Memory: 4 N D + 28 D^2 + 36 V bytes and some megabytes. The image depends on the
 * arguments and the instruction set, not on the number of threads.
 */
EXN_API exn_status exn_screen_build(const exn_screen_params* params);

/**
 * EXN_OK if `image` is whole: magic, version, sizes, checksums; and, if weight is given, was made
 * of that head: its V, D, type and content. Both are told by the 128 bits of XXH3, against accidents.
 * Everything is read once, by this thread; with header_only no checksum but the header's is taken,
 * and of weight only its shape is compared, in microseconds.
 * *info, if it is not null, receives what the image says; nothing is written otherwise.
 */
EXN_API exn_status exn_screen_check(const exn_screen_params* params, exn_screen_info* info);

#ifdef __cplusplus
}
#endif

#endif

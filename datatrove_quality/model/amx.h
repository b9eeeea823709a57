// Products of bfloat16 on a CPU with AMX: 32 rows by 32 columns at once, in 2 x 2 tiles of 16 x 16 sums of float32.

#pragma once

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "avx512.h"

#define ROWS 32        // rows, columns and steps of a product are filled up to multiples of it
#define TILE (16 * 32) // values of bfloat16 in a tile
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

typedef uint16_t bfloat16;

// Ask the kernel for the tiles' registers; 0: this process may use them.
int prepare(void) { return (int)syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA); }

INLINE int64_t up(int64_t count) { return (count + ROWS - 1) / ROWS * ROWS; }

static void configure(void) {
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } __attribute__((aligned(64))) tiles;
    memset(&tiles, 0, sizeof tiles);
    tiles.palette = 1;
    for (int i = 0; i < 8; i++) tiles.bytes[i] = 64, tiles.rows[i] = 16;
    __asm__ volatile("" ::"r"(&tiles) : "memory");  // GCC takes it to read 8 of the 64 bytes
    _tile_loadconfig(&tiles);
}

// 2 x 2 tiles of sums: `steps` times 32 values of 32 rows of A, by tiles of B of 32 values by 16 columns.
INLINE void multiply(const bfloat16 *a, int64_t a_stride, const bfloat16 *b, int64_t b_step, int64_t b_next, int64_t steps,
                     float *sums, int64_t stride) {
    __asm__ volatile("" ::: "memory");  // GCC does not know that tiles are loaded from memory
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < steps; i++) {
        _tile_stream_loadd(6, b + i * b_step, 64);
        _tile_loadd(4, a + i * 32, a_stride * 2);
        _tile_dpbf16ps(0, 4, 6);
        _tile_stream_loadd(7, b + b_next + i * b_step, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 16 * a_stride + i * 32, a_stride * 2);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, stride * 4);
    _tile_stored(1, sums + 16, stride * 4);
    _tile_stored(2, sums + 16 * stride, stride * 4);
    _tile_stored(3, sums + 16 * stride + 16, stride * 4);
}

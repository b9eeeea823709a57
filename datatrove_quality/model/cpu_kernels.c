// Norm, rotary embedding and gated activation on a CPU with AVX-512: each value is read and written once.
//
// All compute in float32 and round once. `half` says whether tensors are bfloat16, else they are float32. A value that
// is not finite makes results that are not finite. Compiled and called by cpu_kernels.py, which checks the arguments.

#include "avx512.h"

INLINE void norm_row(const void *rows, const void *weight, void *output, int64_t first, int64_t width, float epsilon,
                     float offset, int half) {
    floats sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < width; i += LANES) {
        floats values = load(rows, first + i, lanes(width - i), half);
        sum = _mm512_fmadd_ps(values, values, sum);
    }
    floats scale = _mm512_set1_ps(1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(sum) / (float)width + epsilon));
    for (int64_t i = 0; i < width; i += LANES) {
        mask inside = lanes(width - i);
        floats factor = _mm512_add_ps(load(weight, i, inside, half), _mm512_set1_ps(offset));
        floats values = _mm512_mul_ps(load(rows, first + i, inside, half), scale);
        store(output, first + i, inside, _mm512_mul_ps(values, factor), half);
    }
}

void norm(const void *rows, const void *weight, void *output, int64_t count, int64_t width, float epsilon,
          float offset, int half, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < count; row++) {
        if (half) norm_row(rows, weight, output, row * width, width, epsilon, offset, 1);
        else norm_row(rows, weight, output, row * width, width, epsilon, offset, 0);
    }
}

INLINE void rotate_head(const void *states, const void *cos, const void *sin, void *output, int64_t at, int64_t angle,
                        int64_t middle, int half) {
    for (int64_t i = 0; i < middle; i += LANES) {
        mask inside = lanes(middle - i);
        floats first = load(states, at + i, inside, half), second = load(states, at + middle + i, inside, half);
        floats left = _mm512_mul_ps(second, load(sin, angle + i, inside, half));
        floats right = _mm512_mul_ps(first, load(sin, angle + middle + i, inside, half));
        left = _mm512_fmsub_ps(first, load(cos, angle + i, inside, half), left);
        right = _mm512_fmadd_ps(second, load(cos, angle + middle + i, inside, half), right);
        store(output, at + i, inside, left, half);
        store(output, at + middle + i, inside, right, half);
    }
}

// States and output have the same strides, in values; those of the angles are `dim` apart.
void rotate(const void *states, const void *cos, const void *sin, void *output, int64_t tokens, int64_t heads,
            int64_t dim, int64_t token_stride, int64_t head_stride, int half, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t token = 0; token < tokens; token++)
        for (int64_t head = 0; head < heads; head++) {
            int64_t at = token * token_stride + head * head_stride;
            if (half) rotate_head(states, cos, sin, output, at, token * dim, dim / 2, 1);
            else rotate_head(states, cos, sin, output, at, token * dim, dim / 2, 0);
        }
}

INLINE void gate_part(const void *gate, const void *up, void *output, int64_t at, mask inside, int gelu, int half) {
    floats values = activated(load(gate, at, inside, half), gelu, half);
    floats product = _mm512_mul_ps(values, load(up, at, inside, half));
    store(output, at, inside, product, half);
}

void gated(const void *gate, const void *up, void *output, int64_t count, int gelu, int half, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t at = 0; at < count; at += LANES) {
        mask inside = lanes(count - at);
        if (half && gelu) gate_part(gate, up, output, at, inside, 1, 1);
        else if (half) gate_part(gate, up, output, at, inside, 0, 1);
        else gate_part(gate, up, output, at, inside, gelu, 0);
    }
}

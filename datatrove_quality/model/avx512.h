// Sixteen values at a time, of float32 or (`half`) bfloat16, computed in float32.

#pragma once

#include <immintrin.h>
#include <stdint.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef __m512 floats;
typedef __mmask16 mask;

// The lanes that are left of so many values.
INLINE mask lanes(int64_t left) { return left >= LANES ? 0xFFFF : (mask)((1u << left) - 1); }

INLINE floats load(const void *from, int64_t at, mask inside, int half) {
    if (!half) return _mm512_maskz_loadu_ps(inside, (const float *)from + at);
    __m256i bits = _mm256_maskz_loadu_epi16(inside, (const uint16_t *)from + at);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

INLINE void store(void *to, int64_t at, mask inside, floats values, int half) {
    if (half)
        _mm256_mask_storeu_epi16((uint16_t *)to + at, inside, (__m256i)_mm512_cvtneps_pbh(values));
    else
        _mm512_mask_storeu_ps((float *)to + at, inside, values);
}

// 2 to the power x: a polynomial for what x has beyond its floor, scaled by the floor. Within 3e-7 of it, relatively;
// for bfloat16, which rounds by 4e-3, within 8e-5.
INLINE floats power_of_two(floats x, int half) {
    static const float coarse[] = {0.0780242756f, 0.2260672599f, 0.6958336234f, 0.9999251962f};
    static const float fine[] = {0.0018775749f, 0.0089893443f, 0.0558263138f, 0.2401536256f, 0.6931530833f, 0.9999999404f};
    const float *factors = half ? coarse : fine;
    floats beyond = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC), sum = _mm512_set1_ps(factors[0]);
    for (int i = 1; i < (half ? 4 : 6); i++) sum = _mm512_fmadd_ps(sum, beyond, _mm512_set1_ps(factors[i]));
    return _mm512_scalef_ps(sum, x);
}

// The logistic function, for bfloat16 only as close as its rounding.
INLINE floats logistic(floats x, int half) {
    floats power = power_of_two(_mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)), half);
    floats whole = _mm512_add_ps(_mm512_set1_ps(1.0f), power);
    return half ? _mm512_rcp14_ps(whole) : _mm512_div_ps(_mm512_set1_ps(1.0f), whole);
}

// SiLU, or GELU by tanh.
INLINE floats activated(floats values, int gelu, int half) {
    floats steep = values;
    if (gelu) {  // (1 + tanh(z)) / 2 is the logistic function of 2 z
        floats cubed = _mm512_mul_ps(_mm512_mul_ps(values, values), values);
        steep = _mm512_fmadd_ps(cubed, _mm512_set1_ps(0.044715f), values);
        steep = _mm512_mul_ps(steep, _mm512_set1_ps(1.5957691216f));
    }
    return _mm512_mul_ps(values, logistic(steep, half));
}

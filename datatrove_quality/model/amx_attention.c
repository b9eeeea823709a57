// Attention within the sequences of a packed row, in bfloat16 on a CPU with AMX.
//
// A task is a block of a sequence's queries, of the heads that share keys. For 32 queries at once: products with all
// keys that one of them sees, a softmax in float32, and products of its weights, rounded to bfloat16, with the values.
// Compiled and called by amx_attention.py, which checks the arguments.

#include "amx.h"

#define QUERIES_OF_TASK 256

typedef struct {
    const bfloat16 *query, *key, *value;
    bfloat16 *output;
    int64_t query_token, query_head, key_token, key_head, value_token, value_head, output_token, output_head;  // strides
    int64_t heads, groups, dim, window;  // heads of keys, heads of queries that share one
    float scale;
    int causal;
} Attention;

// What a thread computes with: keys and values of a task in the layout of tiles, and 32 rows of what is between.
typedef struct {
    bfloat16 *keys, *values, *queries, *weights;
    float *products, *sums;
} Scratch;

// A matrix of 16 x 16 pairs, transposed.
INLINE void transpose(__m512i *r) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
        }
    for (int j = 0; j < 4; j++) {
        t[j] = _mm512_shuffle_i32x4(r[j], r[j + 4], 0x88);
        t[j + 4] = _mm512_shuffle_i32x4(r[j], r[j + 4], 0xDD);
        t[j + 8] = _mm512_shuffle_i32x4(r[j + 8], r[j + 12], 0x88);
        t[j + 12] = _mm512_shuffle_i32x4(r[j + 8], r[j + 12], 0xDD);
    }
    for (int j = 0; j < 8; j++) {
        r[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
        r[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xDD);
    }
}

// Keys as tiles of 32 dimensions by 16 keys, those of the same keys side by side; behind the last key, zeros.
INLINE void lay_out_keys(const bfloat16 *key, int64_t stride, int64_t count, int64_t dim, bfloat16 *tiles) {
    for (int64_t first = 0; first < up(count); first += 16)
        for (int64_t part = 0; part < dim; part += 32, tiles += TILE) {
            __m512i rows[16];
            for (int64_t i = 0; i < 16; i++)
                rows[i] = first + i < count ? _mm512_loadu_si512(key + (first + i) * stride + part) : _mm512_setzero_si512();
            transpose(rows);
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(tiles + 32 * i, rows[i]);
        }
}

// Values as tiles of 32 keys by 16 dimensions, those of the same dimensions side by side.
INLINE void lay_out_values(const bfloat16 *value, int64_t stride, int64_t count, int64_t dim, bfloat16 *tiles) {
    int64_t steps = up(count) / ROWS;
    for (int64_t i = 0; i < up(count); i += 2)
        for (int64_t part = 0; part < dim; part += 16) {
            __m512i pairs = _mm512_setzero_si512();
            const bfloat16 *at = value + i * stride + part;
            if (i < count) pairs = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)at));
            if (i + 1 < count) {
                __m512i odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(at + stride)));
                pairs = _mm512_or_si512(pairs, _mm512_slli_epi32(odd, 16));
            }
            _mm512_storeu_si512(tiles + (part / 16 * steps + i / ROWS) * TILE + i % ROWS / 2 * 32, pairs);
        }
}

// The weights of some keys, at most 16, and the sum with them.
INLINE floats weigh(const float *products, bfloat16 *weights, mask inside, floats factor, floats above, floats total) {
    floats below = _mm512_fmsub_ps(_mm512_maskz_loadu_ps(inside, products), factor, above);
    floats power = power_of_two(below, 1);
    store(weights, 0, inside, power, 1);
    return _mm512_mask_add_ps(total, inside, total, power);
}

// A row's weights, of the keys from `first` to `end` (zero for others), and the sum of them before they are rounded.
INLINE float softmax(const float *products, bfloat16 *weights, int64_t first, int64_t end, int64_t width, float scale) {
    int64_t whole = first + (end - first) / LANES * LANES;
    mask rest = lanes(end - whole);
    floats total = _mm512_setzero_ps(), factor = _mm512_set1_ps(scale * 1.44269504f);
    floats highest = _mm512_mask_loadu_ps(_mm512_set1_ps(-__builtin_inff()), rest, products + whole);
    for (int64_t i = first; i < whole; i += LANES) highest = _mm512_max_ps(highest, _mm512_loadu_ps(products + i));
    floats above = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_max_ps(highest)), factor);
    memset(weights, 0, first * sizeof *weights);
    for (int64_t i = first; i < whole; i += LANES) total = weigh(products + i, weights + i, 0xFFFF, factor, above, total);
    total = weigh(products + whole, weights + whole, rest, factor, above, total);
    memset(weights + end, 0, (width - end) * sizeof *weights);
    return _mm512_reduce_add_ps(total);
}

// 32 queries of a head, or fewer: `before` keys are before the first one's own.
static void attend_rows(const Attention *given, const Scratch *own, const bfloat16 *query, bfloat16 *output, int64_t count,
                        int64_t before, int64_t key_count, int64_t steps) {
    int64_t dim = given->dim, seen = given->causal ? before + count : key_count, width = up(seen);
    int64_t skipped = before + 1 > given->window ? (before + 1 - given->window) / ROWS * ROWS : 0;
    for (int64_t i = 0; i < ROWS; i++) {
        if (i < count) memcpy(own->queries + i * dim, query + i * given->query_token, dim * 2);
        else memset(own->queries + i * dim, 0, dim * 2);
    }
    for (int64_t key = skipped; key < width; key += ROWS)
        multiply(own->queries, dim, own->keys + key * dim, TILE, 16 * dim, dim / 32, own->products + key, width);
    float totals[ROWS];
    for (int64_t i = 0; i < ROWS; i++) {
        int64_t at = before + (i < count ? i : count - 1), end = given->causal ? at + 1 : key_count;
        int64_t first = at + 1 > given->window ? at + 1 - given->window : 0;
        float *products = own->products + i * width;
        totals[i] = softmax(products + skipped, own->weights + i * width + skipped, first - skipped, end - skipped,
                            width - skipped, given->scale);
    }
    for (int64_t part = 0; part < dim; part += ROWS)
        multiply(own->weights + skipped, width, own->values + (part / 16 * steps + skipped / ROWS) * TILE, TILE,
                 steps * TILE, (width - skipped) / ROWS, own->sums + part, dim);
    for (int64_t i = 0; i < count; i++) {
        floats inverse = _mm512_set1_ps(1.0f / totals[i]);
        for (int64_t j = 0; j < dim; j += LANES)
            store(output + i * given->output_token, j, 0xFFFF, _mm512_mul_ps(_mm512_loadu_ps(own->sums + i * dim + j), inverse), 1);
    }
}

// Some of a sequence's queries, from `first` to `end`, of all heads that share the keys of one head.
static void attend_task(const Attention *given, const Scratch *own, const int32_t *queries, const int32_t *keys,
                        int64_t head, int64_t first, int64_t end) {
    int64_t key_count = keys[1] - keys[0], before = key_count - (queries[1] - queries[0]) + first;
    int64_t seen = given->causal ? before + end - first : key_count, dim = given->dim;
    int64_t unseen = before + 1 > given->window ? (before + 1 - given->window) / ROWS * ROWS : 0;
    const bfloat16 *key = given->key + (keys[0] + unseen) * given->key_token + head * given->key_head;
    const bfloat16 *value = given->value + (keys[0] + unseen) * given->value_token + head * given->value_head;
    seen -= unseen, before -= unseen;
    lay_out_keys(key, given->key_token, seen, dim, own->keys);
    lay_out_values(value, given->value_token, seen, dim, own->values);
    for (int64_t group = 0; group < given->groups; group++)
        for (int64_t row = first; row < end; row += ROWS) {
            int64_t count = end - row < ROWS ? end - row : ROWS, of_queries = head * given->groups + group;
            const bfloat16 *query = given->query + (queries[0] + row) * given->query_token + of_queries * given->query_head;
            bfloat16 *output = given->output + (queries[0] + row) * given->output_token + of_queries * given->output_head;
            attend_rows(given, own, query, output, count, before + row - first, seen, up(seen) / ROWS);
        }
}

// `queries` and `keys` are cumulative numbers of each sequence's; queries are the last tokens of their sequences. The
// longest sequence has `longest` keys. 0: done; 1: out of memory.
int attend(const Attention *given, const int32_t *queries, const int32_t *keys, int64_t sequences, int64_t longest,
           int threads) {
    int failed = 0;
    int64_t width = up(longest), blocks = (longest + QUERIES_OF_TASK - 1) / QUERIES_OF_TASK, dim = given->dim;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        int64_t sizes[] = {2 * width * dim, 2 * width * dim, 2 * ROWS * dim, 2 * ROWS * width, 4 * ROWS * width, 4 * ROWS * dim};
        int64_t bytes = 0;
        for (int i = 0; i < 6; i++) bytes += sizes[i];
        char *memory = aligned_alloc(64, bytes), *next = memory;
        Scratch own = {0};
        void **parts[] = {(void **)&own.keys, (void **)&own.values, (void **)&own.queries, (void **)&own.weights, (void **)&own.products, (void **)&own.sums};
        for (int i = 0; i < 6; i++) *parts[i] = next, next += sizes[i];
        failed = memory == NULL;
        if (memory) configure();
#pragma omp for schedule(dynamic) collapse(3)
        for (int64_t i = 0; i < sequences; i++)
            for (int64_t head = 0; head < given->heads; head++)
                for (int64_t block = 0; block < blocks; block++) {
                    int64_t first = block * QUERIES_OF_TASK, count = memory ? queries[i + 1] - queries[i] : 0;
                    int64_t end = count - first < QUERIES_OF_TASK ? count : first + QUERIES_OF_TASK;
                    if (first < end) attend_task(given, &own, queries + i, keys + i, head, first, end);
                }
        if (memory) _tile_release();
        free(memory);
    }
    return failed;
}

// Linear layers in bfloat16 on a CPU with AMX, of weights that are laid out as tiles when the model is loaded.
//
// A task is a block of rows by some panels of 32 outputs each. Small weights stay in the second cache while rows pass;
// where weights are large, rows stay and weights pass. A sum goes up the inputs in float32 and in one order, whatever
// the block and however many threads: a row's outputs do not depend on the rows beside it. Sums of 32 rows by a panel are
// four tiles of 16 by 16: upper left, upper right, lower left, lower right. Compiled and called by amx_linear.py, which
// checks the arguments.

#include "amx.h"

#define STEPS 16          // 512 inputs: of these 32 rows, or 32 outputs' weights, stay in the first cache
#define DEEP_STEPS 64     // at most 2,048 inputs, after which sums go to memory
#define NEAR (7 << 17)    // bytes that stay in the second cache, which others may share, while the rest passes
#define GROUP (8 << 20)   // bytes of weights that meet all rows before the next ones: they stay in the last cache
#define COPY 4            // panels: a task's rows are copied in the time that these take
#define FETCH 32          // rows: a panel's weights are waited for as long as these take
#define MOST_ROWS 1024    // of a task while weights stay

enum { PLAIN, SILU, GELU };

typedef struct {
    const bfloat16 *rows, *weight, *bias;  // bias: NULL or one for each output
    bfloat16 *output;
    int64_t count, inputs, panels;
    int activation;  // PLAIN, or a panel has 16 gates and 16 values that they let through, so 16 outputs
} Linear;

typedef struct {
    bfloat16 *rows;  // of a task, copied as pairs of tiles
    float *sums;
} Scratch;

// Sums of 32 rows or fewer in a panel that wait to become outputs.
typedef struct {
    const float *sums, *before;  // NULL, or the sums of the panel before: two panels of gates fill lines of the output
    int64_t row, count, panel;
    int streams;  // outputs go around the caches
} Waiting;

INLINE int64_t least(int64_t one, int64_t other) { return one < other ? one : other; }
INLINE int64_t parts_of(int64_t count, int64_t most) { return (count + most - 1) / most; }

// Steps between which sums stay in registers or in the first caches, where rows stay.
INLINE int64_t deep_steps(const Linear *given) {
    return parts_of(given->inputs / 32, parts_of(given->inputs / 32, DEEP_STEPS));
}
INLINE int is_deep(const Linear *given) { return deep_steps(given) < given->inputs / 32; }

INLINE floats gated(const Linear *given, const float *sums) {
    floats gates = activated(_mm512_loadu_ps(sums), given->activation == GELU, 1);
    return _mm512_mul_ps(gates, _mm512_loadu_ps(sums + TILE / 2));
}

// So many of the rows that wait, from `first` on.
INLINE void finish(const Linear *given, const Waiting *of, int64_t first, int64_t count) {
    int64_t outputs = given->activation == PLAIN ? 32 : 16, width = given->panels * outputs;
    for (int64_t i = first; i < least(first + count, of->count); i++) {
        bfloat16 *output = given->output + (of->row + i) * width + of->panel * outputs;
        int64_t place = (i / 16 * 32 + i % 16) * 16;
        const float *sums = of->sums + place;
        __m512i values;
        if (given->activation == PLAIN) {
            floats left = _mm512_loadu_ps(sums), right = _mm512_loadu_ps(sums + TILE / 2);
            if (given->bias) {
                left = _mm512_add_ps(left, load(given->bias, of->panel * 32, 0xFFFF, 1));
                right = _mm512_add_ps(right, load(given->bias, of->panel * 32 + 16, 0xFFFF, 1));
            }
            values = (__m512i)_mm512_cvtne2ps_pbh(right, left);
        } else if (of->before) {
            values = (__m512i)_mm512_cvtne2ps_pbh(gated(given, sums), gated(given, of->before + place));
            output -= outputs;
        } else {
            store(output, 0, 0xFFFF, gated(given, sums), 1);
            continue;
        }
        if (of->streams) _mm512_stream_si512((void *)output, values);
        else _mm512_storeu_si512(output, values);
    }
}

// The products of 32 rows and a panel for `steps` times 32 inputs. Two rows are `stride` apart and two steps of a row
// `row_step`: rows as they are given, or copied. Meanwhile the vector units finish what waits, and `lines` of what comes
// next are fetched. What waits may be in `sums`: it is finished before the new ones are stored. Of what stays in the
// second cache each piece passes through the first, and is read so that it pushes nothing out of it.
INLINE void multiply_panel(const Linear *given, const bfloat16 *rows, int64_t stride, int64_t row_step,
                           const bfloat16 *weight, int64_t steps, float *sums, int goes_on, int rows_stay,
                           const Waiting *waiting, const char *next, int64_t lines) {
    __asm__ volatile("" ::: "memory");  // GCC does not know that tiles are loaded from memory
    if (goes_on) {
        _tile_loadd(0, sums, 64);
        _tile_loadd(1, sums + TILE / 2, 64);
        _tile_loadd(2, sums + TILE, 64);
        _tile_loadd(3, sums + TILE + TILE / 2, 64);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    int64_t at_once = parts_of(ROWS, steps), fetched = 0;
    for (int64_t i = 0; i < steps; i++, rows += row_step, weight += 2 * TILE) {
        if (rows_stay) {
            _tile_loadd(6, weight, 64);
            _tile_stream_loadd(4, rows, stride * 2);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, weight + TILE, 64);
            _tile_dpbf16ps(1, 4, 7);
            _tile_stream_loadd(5, rows + 16 * stride, stride * 2);
        } else {
            _tile_stream_loadd(6, weight, 64);
            _tile_loadd(4, rows, stride * 2);
            _tile_dpbf16ps(0, 4, 6);
            _tile_stream_loadd(7, weight + TILE, 64);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, rows + 16 * stride, stride * 2);
        }
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        for (; fetched < lines * (i + 1) / steps; fetched++) _mm_prefetch(next + fetched * 64, _MM_HINT_T1);
        finish(given, waiting, i * at_once, at_once);
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + TILE / 2, 64);
    _tile_stored(2, sums + TILE, 64);
    _tile_stored(3, sums + TILE + TILE / 2, 64);
    __asm__ volatile("" ::: "memory");
}

// 32 rows, or fewer and zeros, as pairs of tiles.
static void copy_rows(const bfloat16 *rows, int64_t count, int64_t stride, int64_t steps, bfloat16 *copy) {
    for (int64_t first = 0; first < steps; first += 4)
        for (int64_t i = 0; i < ROWS; i++)
            for (int64_t step = first; step < least(first + 4, steps); step++) {
                __m512i values = i < count ? _mm512_loadu_si512(rows + i * stride + step * 32) : _mm512_setzero_si512();
                _mm512_store_si512(copy + step * 2 * TILE + i * 32, values);
            }
}

// Weights stay in the second cache; rows pass, 32 by 512 inputs at a time.
static void pass_rows(const Linear *given, const Scratch *own, int64_t row, int64_t count, int64_t first, int64_t end) {
    int64_t inputs = given->inputs, all_steps = inputs / 32, together = NEAR / (64 * inputs);  // 7 or more
    int64_t lines = parts_of(32, together);
    const bfloat16 *all_rows = given->rows + row * inputs;
    if (count % ROWS) copy_rows(all_rows + count / ROWS * ROWS * inputs, count % ROWS, inputs, all_steps, own->rows);
    Waiting waiting = {0};
    for (int64_t group = first; group < end; group += together)
        for (int64_t i = 0; i < count; i += ROWS) {
            int is_whole = count - i >= ROWS;
            int64_t stride = is_whole ? inputs : 32, row_step = is_whole ? 32 : 2 * TILE;
            const bfloat16 *rows = is_whole ? all_rows + i * inputs : own->rows;
            const char *next = (const char *)(rows + ROWS * inputs);
            for (int64_t step = 0; step < all_steps; step += STEPS)
                for (int64_t panel = group; panel < least(end, group + together); panel++) {
                    int64_t steps = least(all_steps - step, STEPS);
                    const bfloat16 *weight = given->weight + (panel * all_steps + step) * 2 * TILE;
                    float *sums = own->sums + (panel - group) * ROWS * ROWS;
                    multiply_panel(given, rows + step * row_step, stride, row_step, weight, steps, sums, step > 0, 0,
                                   &waiting, next, steps * lines);
                    next += steps * lines * 64;
                    waiting.count = 0;
                    if (step + steps == all_steps)
                        waiting = (Waiting){sums, NULL, row + i, least(count - i, ROWS), panel, 0};
                }
        }
    finish(given, &waiting, 0, ROWS);
}

// Rows stay in the second cache; weights pass, 32 outputs by 512 inputs at a time.
static void pass_weights(const Linear *given, const Scratch *own, int64_t row, int64_t count, int64_t first, int64_t end) {
    int64_t inputs = given->inputs, all_steps = inputs / 32, blocks = up(count) / ROWS, apart = blocks * ROWS * ROWS;
    int is_plain = given->activation == PLAIN;
    int streams = ((uintptr_t)given->output | (uintptr_t)(given->panels * (is_plain ? 64 : 32))) % 64 == 0;  // full lines
    Waiting waiting = {0};
    for (int64_t deep = 0, most = deep_steps(given); deep < all_steps; deep += most) {
        int64_t deep_end = least(all_steps, deep + most), near = deep_end - deep;
        for (int64_t i = 0; i < blocks; i++)
            copy_rows(given->rows + (row + i * ROWS) * inputs + deep * 32, count - i * ROWS, inputs, near,
                      own->rows + i * near * 2 * TILE);
        for (int64_t panel = first; panel < end; panel++) {
            int is_second = !is_plain && (panel - first) % 2, is_first = !is_plain && !is_second && panel + 1 < end;
            const bfloat16 *weight = given->weight + panel * all_steps * 2 * TILE;
            float *of_panel = own->sums + (is_deep(given) ? panel - first : is_second) * apart;
            for (int64_t step = deep; step < deep_end; step += STEPS) {
                int64_t steps = least(deep_end - step, STEPS);
                int64_t next = step + steps < deep_end ? step + steps : all_steps + deep;  // or of the next panel
                int64_t lines = 32 * least(STEPS, next < deep_end ? deep_end - next : near);
                for (int64_t i = 0; i < blocks; i++) {
                    const bfloat16 *rows = own->rows + (i * near + step - deep) * 2 * TILE;
                    float *sums = of_panel + i * ROWS * ROWS;
                    int64_t line = lines * i / blocks;
                    multiply_panel(given, rows, 32, 2 * TILE, weight + step * 2 * TILE, steps, sums, step > 0, 1, &waiting,
                                   (const char *)(weight + next * 2 * TILE) + line * 64, lines * (i + 1) / blocks - line);
                    waiting.count = 0;
                    if (step + steps == all_steps && !is_first)
                        waiting = (Waiting){sums, is_second ? sums - apart : NULL, row + i * ROWS,
                                            least(count - i * ROWS, ROWS), panel, streams};
                }
            }
        }
    }
    finish(given, &waiting, 0, ROWS);
    _mm_sfence();  // what went around the caches is there for other threads
}

// Rows and panels of a task. Where rows stay, it is the division that takes the least time, counted in rows by panels:
// fewer rows a task than the most, or so many panels that each thread has one to three tasks.
static void divide(const Linear *given, int threads, int rows_stay, int64_t *rows, int64_t *panels) {
    int64_t count = given->count, most = rows_stay ? NEAR / (64 * deep_steps(given)) / ROWS * ROWS : MOST_ROWS;
    int64_t blocks = parts_of(count, most), all_blocks = parts_of(count, ROWS), fastest = INT64_MAX;
    if (!rows_stay) {
        *rows = up(parts_of(count, least(blocks < threads ? threads : blocks, all_blocks)));
        *panels = parts_of(given->panels, parts_of(threads, parts_of(count, *rows)));
        return;
    }
    int64_t group = GROUP / (64 * given->inputs);
    for (int64_t tried = blocks; tried <= least(2 * blocks, all_blocks); tried++)
        for (int64_t rounds = 1; rounds <= 3; rounds++) {
            int64_t of_task = up(parts_of(count, tried)), in_rows = parts_of(count, of_task);
            int64_t wanted = least(parts_of(given->panels, parts_of(rounds * threads, in_rows)), group > 1 ? group : 1);
            if (given->activation != PLAIN) wanted = (wanted + 1) / 2 * 2;  // two panels of gates belong together
            int64_t later = parts_of(in_rows * parts_of(given->panels, wanted), threads) - 1;  // after the first task
            int64_t time = (of_task + FETCH + later * (up(count) / in_rows + FETCH)) * (wanted + COPY);
            if (time < fastest) fastest = time, *rows = of_task, *panels = wanted;
        }
}

// 0: done; 1: out of memory, and some outputs are not written.
int linear(const Linear *given, int threads) {
    int failed = 0;
    if (!given->count) return 0;
    int64_t count = given->count, inputs = given->inputs, rows, panels;
    // Faster from these widths on, by measurement: the weights do not stay in the second cache.
    int rows_stay = inputs >= 1024 && (inputs >= 2048 || given->panels >= 32);
    divide(given, threads, rows_stay, &rows, &panels);
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        int64_t copied = rows_stay ? rows * 32 * deep_steps(given) : ROWS * inputs;
        int64_t blocks = !rows_stay ? least(panels, NEAR / (64 * inputs)) : rows / ROWS * (is_deep(given) ? panels : 2);
        char *memory = aligned_alloc(64, blocks * 4 * ROWS * ROWS + 2 * copied);
        Scratch own = {(bfloat16 *)(memory + blocks * 4 * ROWS * ROWS), (float *)memory};
        failed = memory == NULL;
        if (memory) configure();
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t first = 0; first < given->panels; first += panels)
            for (int64_t row = 0; row < count; row += rows) {
                int64_t end = least(first + panels, given->panels), of_task = least(count - row, rows);
                if (!memory) continue;
                if (rows_stay) pass_weights(given, &own, row, of_task, first, end);
                else pass_rows(given, &own, row, of_task, first, end);
            }
        if (memory) _tile_release();
        free(memory);
    }
    return failed;
}

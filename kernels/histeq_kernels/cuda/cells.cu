// CLAHE of grey integers without depth, by cells: the pixels between the centres of the same four tiles. A block has the
// tables of its cell in shared memory, the four entries of a bin in one word, and a thread has four columns, whose
// weights it computes once for all rows. The results are those of apply_tiles.

constexpr int COLUMNS = 4;  // of a thread

// The four tables of a cell. An entry: upper left, upper right, lower left, lower right, from the lowest bits up.
template <class T> struct WordOf { typedef u64 type; };
template <> struct WordOf<u8> { typedef u32 type; };

template <class T>
struct CellTables {
    typedef typename WordOf<T>::type Word;
    static constexpr int BITS = 8 * sizeof(T);
    const T* table[4];
    Word* words;      // null: there are more bins than shared memory holds
    u32 flip;
    int bin_shift, first, last;  // of the bins

    __device__ __forceinline__ int bin(T value) const {
        return min(max(static_cast<int>(bin_of(value, flip) >> bin_shift) - first, 0), last);
    }
    __device__ __forceinline__ Word gathered(int bin) const {
        Word word = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) word |= static_cast<Word>(__ldg(table[i] + bin)) << i * BITS;
        return word;
    }
    // 8 bits have a word for each value, more have one for each bin.
    __device__ __forceinline__ void load() const {
        const int count = sizeof(T) == 1 ? 256 : last + 1;
        for (int i = threadIdx.x; i < count; i += blockDim.x)
            words[i] = gathered(sizeof(T) == 1 ? bin(static_cast<T>(i)) : i);
    }
    __device__ __forceinline__ Word operator()(T value) const {
        if (sizeof(T) == 1) return words[value];
        return words == nullptr ? gathered(bin(value)) : words[bin(value)];
    }
};

// The first position along an axis whose lower neighbour is tile `below`, or one after it.
__device__ __forceinline__ i64 cell_begin(const Tiles& tiles, int axis, i64 below, float reciprocal) {
    if (below < 0) return 0;
    i64 at = ((2 * below + 1) * tiles.size[axis] + 1) / 2;  // but for rounding
    while (at > 0 && Between::below(at - 1, reciprocal) >= below) --at;
    while (Between::below(at, reciprocal) < below) ++at;
    return at;
}

// The pixels of a cell along an axis, counted from the window's first one.
struct Stripe {
    i64 begin, end;
    int before, after;  // the tiles around

    __device__ __forceinline__ Stripe(const Tiles& tiles, int axis, i64 cell, i64 size) {
        const float reciprocal = Between::reciprocal(tiles, axis);
        const i64 below = tiles.first[axis] + cell - 1, last = tiles.count[axis] - 1, origin = tiles.origin[axis];
        begin = max(cell_begin(tiles, axis, below, reciprocal) - origin, 0ll);
        end = below == last ? size : min(cell_begin(tiles, axis, below + 1, reciprocal) - origin, size);
        before = static_cast<int>(max(below, 0ll));
        after = static_cast<int>(min(below + 1, last));
    }
};

// COLUMNS pixels, loaded and stored at once where they are aligned and all of the cell.
template <class T>
union Few {
    struct alignas(COLUMNS * sizeof(T)) { T of[COLUMNS]; } all;
    T element[COLUMNS];

    __device__ __forceinline__ Few() {}
};

// One entry of a word as a float: its bits below those of 2^23, which is subtracted. A conversion takes longer.
__device__ __forceinline__ float entry_of(u32 word, int which) {
    return subtract(__uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440 + which)), 8388608.0f);
}
__device__ __forceinline__ float entry_of(u64 word, int which) {
    const u32 half = static_cast<u32>(word >> which / 2 * 32);
    return subtract(__uint_as_float(__byte_perm(half, 0x4b000000u, which % 2 ? 0x7432 : 0x7410)), 8388608.0f);
}

// Blend the pixels of every cell. Grid: x parts of a cell's rows, y cells of all planes (in steps of gridDim.y).
// `in_shared` tells whether the tables go to shared memory.
template <class T>
__device__ __forceinline__ void apply_cells(const Layout& at, const Tiles& tiles, const Levels& levels,
                                            const char* image, const Tables& tables, i64 in_shared, char* out) {
    typedef typename CellTables<T>::Word Word;
    const i64 wide = tiles.held[2] + 1, cells = (tiles.held[1] + 1) * wide;
    const float by_row = Between::reciprocal(tiles, 1), by_column = Between::reciprocal(tiles, 2);
    const bool narrow = levels.narrow != 0;
    const u32 scale = 1u << levels.shift, offset = static_cast<u32>(levels.offset);
    const u32 toggle = narrow ? 0 : static_cast<u32>(levels.flip);
    for (i64 index = blockIdx.y; index < at.images * at.planes * cells; index += gridDim.y) {
        const i64 which = index / cells, cell = index - which * cells;
        const Stripe y(tiles, 1, cell / wide, at.rows), x(tiles, 2, cell % wide, at.columns);
        if (y.begin >= y.end || x.begin >= x.end) continue;
        const Plane plane(at, which);
        const char* const pixels = image + plane.offset(at.image);
        char* const targets = out + plane.offset(at.out);
        const auto table_at = [&](int row, int column) {
            const i64 tile = (row - tiles.first[1]) * tiles.held[2] + column - tiles.first[2];
            return tables.of<T>(plane) + tile * levels.bins;
        };
        const CellTables<T> four{{table_at(y.before, x.before), table_at(y.before, x.after),
                                  table_at(y.after, x.before), table_at(y.after, x.after)},
                                 in_shared ? behind_scratch<Word>() : nullptr,
                                 static_cast<u32>(levels.flip), static_cast<int>(levels.bin_shift),
                                 static_cast<int>(levels.first), static_cast<int>(levels.bins) - 1};
        __syncthreads();  // nobody needs the last cell's tables any more
        if (in_shared) four.load();
        __syncthreads();

        // Groups of columns begin at aligned addresses where all rows do alike.
        const i64 unaligned = at.image.row | at.out.row | (reinterpret_cast<i64>(pixels) ^ reinterpret_cast<i64>(targets));
        const bool dense = at.image.column == sizeof(T) && at.out.column == sizeof(T) && !narrow &&
                           unaligned % static_cast<i64>(sizeof(Few<T>)) == 0;
        const u64 left = reinterpret_cast<u64>(pixels) + x.begin * at.image.column;
        const int past = dense ? static_cast<int>(left % sizeof(Few<T>) / sizeof(T)) : 0;
        const int groups = static_cast<int>((x.end - x.begin + past + COLUMNS - 1) / COLUMNS);
        const int step = min(groups, static_cast<int>(blockDim.x)), rows = blockDim.x / step;
        const int row = threadIdx.x / step;
        const i64 length = (y.end - y.begin + gridDim.x - 1) / gridDim.x;
        const i64 begin = y.begin + blockIdx.x * length + row, end = min(y.begin + (blockIdx.x + 1) * length, y.end);
        if (row >= rows) continue;  // the threads that are left over
        for (int group = threadIdx.x - row * step; group < groups; group += step) {
            const i64 column = x.begin - past + group * COLUMNS;
            // Of the columns, those of the cell.
            const int first = static_cast<int>(max(x.begin - column, 0ll));
            const int count = static_cast<int>(min(x.end - column, static_cast<i64>(COLUMNS)));
            const bool whole = dense && first == 0 && count == COLUMNS;
            float before[COLUMNS], after[COLUMNS];
#pragma unroll
            for (int i = 0; i < COLUMNS; ++i) {
                const Between around(tiles, 2, column + i, by_column);
                before[i] = around.weight_before;
                after[i] = around.weight_after;
            }
            const char* from = pixels + begin * at.image.row + column * at.image.column;
            char* to = targets + begin * at.out.row + column * at.out.column;
            for (i64 line = begin; line < end; line += rows) {
                const Between around(tiles, 1, line, by_row);
                Few<T> few, result;
                if (whole) {
                    few.all = *reinterpret_cast<const decltype(few.all)*>(from);
                } else {
#pragma unroll
                    for (int i = 0; i < COLUMNS; ++i)
                        few.element[i] =
                            i >= first && i < count ? *reinterpret_cast<const T*>(from + i * at.image.column) : 0;
                }
#pragma unroll
                for (int i = 0; i < COLUMNS; ++i) {
                    const Word word = four(few.element[i]);
                    const float upper = weighted(entry_of(word, 0), before[i], entry_of(word, 1), after[i]);
                    const float lower = weighted(entry_of(word, 2), before[i], entry_of(word, 3), after[i]);
                    const float level = weighted(upper, around.weight_before, lower, around.weight_after);
                    // The sum has the level, rounded to the nearest integer, in its low bits.
                    const u32 place = __float_as_uint(add(level, 12582912.0f)) * scale + offset;
                    result.element[i] = static_cast<T>(place ^ toggle);
                }
                if (levels.nodata >= 0) {
                    const T all = static_cast<T>(narrow ? 0xff : -1);
#pragma unroll
                    for (int i = 0; i < COLUMNS; ++i) {
                        const bool becomes_nodata = (result.element[i] & all) == levels.nodata;
                        if (becomes_nodata) result.element[i] = static_cast<T>(levels.beside_nodata);
                        if (few.element[i] == levels.nodata) result.element[i] = few.element[i];
                    }
                }
                if (whole) {
                    *reinterpret_cast<decltype(result.all)*>(to) = result.all;
                } else {
#pragma unroll
                    for (int i = 0; i < COLUMNS; ++i) {
                        if (i < first || i >= count) continue;
                        if (narrow) *reinterpret_cast<u8*>(to + i * at.out.column) = static_cast<u8>(result.element[i]);
                        else *reinterpret_cast<T*>(to + i * at.out.column) = result.element[i];
                    }
                }
                from += rows * at.image.row;
                to += rows * at.out.row;
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_cells_u8(Layout at, const __grid_constant__ Tiles tiles, const __grid_constant__ Levels levels, const char* image,
               Tables tables, i64 in_shared, char* out) {
    apply_cells<u8>(at, tiles, levels, image, tables, in_shared, out);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_cells_u16(Layout at, const __grid_constant__ Tiles tiles, const __grid_constant__ Levels levels, const char* image,
                Tables tables, i64 in_shared, char* out) {
    apply_cells<u16>(at, tiles, levels, image, tables, in_shared, out);
}

// CLAHE: a histogram and a table for every tile, and pixels blended from the tables around them. The arithmetic is that
// of histeq/_core/tile_grid.py, operation by operation; axes are D, H, W, in that order.

struct Tiles {
    i64 count[3];   // tiles
    i64 size[3];    // pixels of a tile; the last tiles may end beyond the image
    i64 shape[3];   // pixels of the image
    i64 origin[3];  // where the pixels of the launch begin in it
    i64 first[3];   // the first of the tiles whose tables there are
    i64 held[3];    // and how many there are

    __device__ __forceinline__ i64 all() const { return count[0] * count[1] * count[2]; }
};

// How pixels become bins, and levels become pixels.
struct Levels {
    i64 bins, width;           // entries of a table, and their bytes
    i64 bin_shift, flip;       // integers: bits to the right give a bin; what `bin_of` needs
    i64 first;                 // integers: of the bins of all values, the first that a table has
    i64 lowest, span, shift;   // of the levels; bits to the left give a pixel
    i64 offset;                // integers: what is added to that
    i64 narrow;                // integers: the result has 8 bits, whatever the image has
    i64 nodata, beside_nodata; // integers, by their bits: what is not counted and not changed (-1: none), and what
                               // other pixels become that would become it
    double nodata_value, beside_nodata_value;  // the same for floating images; NaN: none
    double low, range;         // floating: what level 0 stands for, and how much more level 65535
    double clip_limit;

    // The bin of an integer, by its place among all values: one of the table's in the range, less than `bins`.
    __device__ __forceinline__ u32 bin(u32 place) const {
        return (place >> bin_shift) - static_cast<u32>(first);
    }
    // The same for any place: those out of range go to the first or the last bin.
    __device__ __forceinline__ u32 nearest_bin(u32 place) const {
        const i64 bin = static_cast<i64>(place >> bin_shift) - first;
        return static_cast<u32>(max(0ll, min(bin, bins - 1)));
    }
    // The integer of a level, by its place among all values.
    __device__ __forceinline__ i64 place(i64 level) const { return (level << shift) + offset; }
};

// Counters of the bins of a tile.

// Integers by their bits. Which bin a value of 8 bits belongs to is asked once a value, not once a pixel.
template <class T>
struct ValueCounters {
    SlicedCopies sliced;
    const Levels& levels;
    u32 nodata;  // not counted; of more bits than a pixel: there is none

    __device__ __forceinline__ ValueCounters(const Levels& all, i64 copies, i64 left_out)
        : sliced(all.bins, copies), levels(all), nodata(static_cast<u32>(left_out)) {}
    __device__ __forceinline__ void clear() const { sliced.clear(); }
    __device__ __forceinline__ void add(T value) const {
        const u32 bin = levels.bin(bin_of(value, static_cast<u32>(levels.flip))) - sliced.first;
        sliced.copied.add(value == nodata ? ~0u : bin);
    }
    __device__ __forceinline__ void add_vector(const Vector<T>& pixels) const {
#pragma unroll
        for (int e = 0; e < IN_VECTOR<T>; ++e) add(pixels.element[e]);
    }
    __device__ __forceinline__ void fold_into(u64* counts) const { sliced.fold_into(counts); }
};
template <>
struct ValueCounters<u8> {
    LaneCounters lanes;
    const Levels& levels;
    u32 nodata;

    __device__ __forceinline__ ValueCounters(const Levels& all, i64, i64 left_out)
        : levels(all), nodata(static_cast<u32>(left_out)) {}
    __device__ __forceinline__ void clear() const { lanes.clear(); }
    __device__ __forceinline__ void add(u8 value) const { lanes.add(value); }
    __device__ __forceinline__ void add_vector(const Vector<u8>& pixels) const { lanes.add_vector(pixels.whole); }
    __device__ __forceinline__ void fold_into(u64* counts) const {
        lanes.fold([&](u32 value, u64 sum) {
            const u32 bin = levels.bin(bin_of(value, static_cast<u32>(levels.flip)));
            if (bin < levels.bins && value != nodata) atomicAdd(&counts[bin], sum);
        });
    }
};

// A kind of pixel: count() counts it, in counters(); bin() tells its bin and whether it is mapped; put() writes the pixel
// of a level, or the same pixel again. `edges` are those of the plane.

template <class T>
struct Integers {
    typedef T Edge;
    typedef ValueCounters<T> Counters;
    static constexpr bool IN_VECTORS = true;  // where they can be, they are counted so
    __device__ __forceinline__ Integers(const Levels&, const T*, const Strides&, const Strides&) {}
    static __device__ __forceinline__ Counters counters(const Levels& levels, i64 copies) {
        return Counters(levels, copies, levels.nodata);
    }
    __device__ __forceinline__ void count(const Levels&, const char* at, const Counters& counters) const {
        counters.add(*reinterpret_cast<const T*>(at));
    }
    __device__ __forceinline__ bool bin(const Levels& levels, const char* at, u32& bin) const {
        const T value = *reinterpret_cast<const T*>(at);
        bin = levels.nearest_bin(bin_of(value, static_cast<u32>(levels.flip)));
        return value != levels.nodata;
    }
    __device__ __forceinline__ void put(const Levels& levels, const char* from, char* to, bool maps, i64 level) const {
        const i64 place = levels.place(level);
        if (levels.narrow)
            put_as<u8>(levels, from, to, maps, place);
        else
            put_as<T>(levels, from, to, maps, place ^ levels.flip);
    }
    template <class Result>
    static __device__ __forceinline__ void put_as(const Levels& levels, const char* from, char* to, bool maps,
                                                  i64 mapped) {
        Result value = static_cast<Result>(mapped);
        if (value == levels.nodata) value = static_cast<Result>(levels.beside_nodata);
        *reinterpret_cast<Result*>(to) = maps ? value : static_cast<Result>(*reinterpret_cast<const T*>(from));
    }
};

template <class T>
struct Luma {
    typedef T Edge;
    typedef ValueCounters<T> Counters;
    static constexpr bool IN_VECTORS = false;
    i64 to_next, to_next_out;
    __device__ __forceinline__ Luma(const Levels&, const T*, const Strides& image, const Strides& out)
        : to_next(image.plane), to_next_out(out.plane) {}
    static __device__ __forceinline__ Counters counters(const Levels& levels, i64 copies) {
        return Counters(levels, copies, -1);
    }
    __device__ __forceinline__ void count(const Levels& levels, const char* at, const Counters& counters) const {
        const Pixel<T> pixel(at, to_next);
        if (!pixel.is(levels.nodata)) counters.add(static_cast<T>(pixel.luma()));
    }
    __device__ __forceinline__ bool bin(const Levels& levels, const char* at, u32& bin) const {
        const Pixel<T> pixel(at, to_next);
        bin = levels.nearest_bin(static_cast<u32>(pixel.luma()));
        return !pixel.is(levels.nodata);
    }
    __device__ __forceinline__ void put(const Levels& levels, const char* from, char* to, bool maps, i64 level) const {
        Pixel<T> pixel(from, to_next);
        if (maps) {
            pixel.change_luma(pixel.luma(), static_cast<typename Pixel<T>::Wide>(levels.place(level)));
            if (pixel.is(levels.nodata)) pixel.fill(levels.beside_nodata);
        }
        pixel.store(to, to_next_out);
    }
};

template <class T>
struct Floats {
    typedef T Edge;
    typedef SlicedCopies Counters;
    typedef typename Number<T>::Fraction Fraction;
    static constexpr bool IN_VECTORS = false;
    Bins<T> bins;
    __device__ __forceinline__ Floats(const Levels& levels, const T* edges, const Strides&, const Strides&)
        : bins(edges, levels.bins) {}
    static __device__ __forceinline__ Counters counters(const Levels& levels, i64 copies) {
        return Counters(levels.bins, copies);
    }
    __device__ __forceinline__ void count(const Levels& levels, const char* at, const Counters& counters) const {
        u32 its;
        if (bin(levels, at, its) && bins.has(Number<T>::load(at))) counters.add(its);
    }
    __device__ __forceinline__ bool bin(const Levels& levels, const char* at, u32& bin) const {
        const typename Number<T>::Value value = Number<T>::load(at);
        const bool maps = is_finite(widen(value)) && widen(value) != levels.nodata_value;
        bin = maps ? static_cast<u32>(bins.of(value)) : 0;
        return maps;
    }
    __device__ __forceinline__ void put(const Levels& levels, const char* from, char* to, bool maps, i64 level) const {
        const double fraction = divide(__ll2double_rn(level), 65535.0);
        double value = maps ? add(levels.low, multiply(fraction, levels.range)) : widen(Number<T>::load(from));
        if (maps && widen(Number<Fraction>::store(value)) == levels.nodata_value) value = levels.beside_nodata_value;
        *reinterpret_cast<Fraction*>(to) = Number<Fraction>::store(value);
    }
};

// A position beyond the image, folded back at its border pixels.
__device__ __forceinline__ i64 folded(i64 at, i64 size) {
    if (at < size) return at;
    if (size < 2) return 0;
    const i64 period = 2 * (size - 1);
    while (at >= period) at -= period;  // seldom: to divide makes the code of every pixel long
    return min(at, period - at);
}

// Vectors in the rows of a tile: those that begin at aligned addresses, and end within the tile and the image.
struct RowVectors {
    i64 bytes;        // of a row that vectors may hold; 0: there are none
    int least, most;  // of `before`, in all rows

    __device__ __forceinline__ RowVectors(i64 of_row, const char* row, i64 stride) : bytes(of_row) {
        const bool alike = stride % VECTOR == 0;
        least = alike ? before(row) : 0;
        most = alike ? before(row) : VECTOR - 1;
    }
    // The bytes of a row before its first aligned address.
    static __device__ __forceinline__ int before(const char* row) {
        return static_cast<int>(-static_cast<u32>(reinterpret_cast<u64>(row)) % VECTOR);
    }
    __device__ __forceinline__ i64 count(int before) const { return max(bytes - before, 0ll) / VECTOR; }
};

// What a thread takes of the rows of a tile: `length` threads take what lies side by side in a row, and then what follows
// there; a block takes as many rows at a time as it has threads for.
struct RowShare {
    i64 first, step;          // in a row
    i64 first_row, row_step;  // of the tile

    __device__ __forceinline__ RowShare(i64 length, i64 rows) : step(max(min(length, static_cast<i64>(blockDim.x)), 1ll)) {
        const int across = static_cast<int>(step), abreast = blockDim.x / across, mine = threadIdx.x / across;
        first = threadIdx.x - mine * across;
        first_row = mine < abreast ? static_cast<i64>(blockIdx.x) * abreast + mine : rows;  // some are left over
        row_step = static_cast<i64>(gridDim.x) * abreast;
    }
};

// A layer of a tile.
struct TileLayer {
    i64 rows, columns;  // of the tile
    i64 y, x;           // where it begins in the image, of which it may end beyond
    i64 high, wide;     // of the image
    const char* pixels;
    const u8* mask;     // null: all pixels count

    __device__ __forceinline__ i64 row(i64 i) const { return folded(y + i, high); }
    __device__ __forceinline__ i64 column(i64 i) const { return folded(x + i, wide); }
};

// Count the vectors of a layer.
template <class T, class Counters>
__device__ __forceinline__ void count_vectors(const TileLayer& tile, const RowVectors& vectors, i64 stride,
                                              const Counters& counters) {
    const i64 in_row = vectors.count(vectors.least);
    const RowShare share(in_row, tile.rows);
    for (i64 i = share.first; i < in_row; i += share.step) {
        const char* const start = tile.pixels + tile.x * static_cast<i64>(sizeof(T)) + i * VECTOR;
        const int behind = static_cast<int>(min(vectors.bytes - (i + 1) * VECTOR, static_cast<i64>(VECTOR)));
        for (i64 row = share.first_row; row < tile.rows; row += VECTORS * share.row_step) {
            Vector<T> loaded[VECTORS];
            bool is_whole[VECTORS];
#pragma unroll
            for (int k = 0; k < VECTORS; ++k) {
                const i64 its = row + k * share.row_step;
                const char* const from = start + tile.row(its) * stride;
                const int before = vectors.before(from);
                is_whole[k] = its < tile.rows && before <= behind;
                if (is_whole[k]) loaded[k].whole = __ldg(reinterpret_cast<const uint4*>(from + before));
            }
#pragma unroll
            for (int k = 0; k < VECTORS; ++k)
                if (is_whole[k]) counters.add_vector(loaded[k]);
        }
    }
}

// Count the other pixels of a layer, one by one: those beside the vectors, or all.
template <class Kind>
__device__ __forceinline__ void count_singles(const Layout& at, const TileLayer& tile, const RowVectors& vectors,
                                              const Kind& kind, const Levels& levels,
                                              const typename Kind::Counters& counters) {
    constexpr int SIZE = sizeof(typename Kind::Edge);
    const i64 most = tile.columns - vectors.count(vectors.most) * (VECTOR / SIZE);
    if (most == 0) return;
    const RowShare share(min(most, static_cast<i64>(WARP)), tile.rows);
    for (i64 row = share.first_row; row < tile.rows; row += share.row_step) {
        const i64 y = tile.row(row);
        const char* const from = tile.pixels + y * at.image.row;
        const u8* const masked = tile.mask + y * at.mask.row;
        const int before = vectors.before(from + tile.x * at.image.column);
        const i64 skipped = vectors.count(before) * (VECTOR / SIZE);
        for (i64 i = share.first; i < tile.columns - skipped; i += share.step) {
            const i64 x = tile.column(i < before / SIZE ? i : i + skipped);
            if (tile.mask == nullptr || masked[x * at.mask.column])
                kind.count(levels, from + x * at.image.column, counters);
        }
    }
}

// Count the pixels of every tile. Grid: x parts of a tile, y tiles of all planes (in steps of gridDim.y), z slices of
// the bins.
template <class Kind>
__device__ __forceinline__ void tile_histogram(const Layout& at, const Tiles& tiles, const Levels& levels,
                                               const char* image, const u8* mask, const typename Kind::Edge* edges,
                                               i64 copies, u64* counts) {
    typedef typename Kind::Edge T;
    const typename Kind::Counters counters = Kind::counters(levels, copies);
    for (i64 index = blockIdx.y; index < at.images * at.planes * tiles.all(); index += gridDim.y) {
        const i64 which = index / tiles.all(), tile = index - which * tiles.all();
        const Plane plane(at, which);
        const Kind kind(levels, edges + which * (levels.bins + 1), at.image, at.image);
        const char* const pixels = image + plane.offset(at.image);
        const u8* const masked = plane.mask_of(mask, at);
        const i64 z = tile / (tiles.count[1] * tiles.count[2]) * tiles.size[0];
        const i64 y = tile / tiles.count[2] % tiles.count[1] * tiles.size[1];
        const i64 x = tile % tiles.count[2] * tiles.size[2];
        counters.clear();
        __syncthreads();
        for (i64 i = 0; i < tiles.size[0]; ++i) {
            const i64 layer = folded(z + i, tiles.shape[0]);
            const TileLayer its{tiles.size[1], tiles.size[2], y, x, tiles.shape[1], tiles.shape[2],
                                pixels + layer * at.image.layer,
                                masked == nullptr ? nullptr : masked + layer * at.mask.layer};
            const bool is_dense = Kind::IN_VECTORS && masked == nullptr && at.image.column == sizeof(T);
            const RowVectors vectors(is_dense ? max(min(tiles.size[2], tiles.shape[2] - x), 0ll) * sizeof(T) : 0,
                                     its.pixels + its.row(0) * at.image.row + x * at.image.column, at.image.row);
            if constexpr (Kind::IN_VECTORS) count_vectors<T>(its, vectors, at.image.row, counters);
            count_singles<Kind>(at, its, vectors, kind, levels, counters);
        }
        __syncthreads();
        counters.fold_into(counts + index * levels.bins);
        __syncthreads();  // before the counters serve the next tile
    }
}

// The sum over all threads of a block; `before` becomes that over the warps before this one.
__device__ __forceinline__ u64 block_sum(u64 value, u64& before) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, distance);
    __syncthreads();  // nobody reads the scratch's former content any more
    if (lane_id() == 0) scratch()->sums[warp_id()] = value;
    __syncthreads();
    u64 sum = before = 0;
    for (int w = 0; w < warps(); ++w) {
        if (w == warp_id()) before = sum;
        sum += scratch()->sums[w];
    }
    return sum;
}

// Bins of a lane whose counts are loaded, or scanned, at a time: they do not wait for one another.
constexpr int AHEAD = 4;

// The sum over a lane's bins of value(count), where value(0) is 0.
template <class Value>
__device__ __forceinline__ u64 sum_of_bins(const u64* counts, const WarpBins& mine, Value value) {
    u64 sum = 0;
    for (i64 start = mine.begin + lane_id(); start < mine.end; start += WARP * AHEAD) {
        u64 here[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) here[i] = start + i * WARP < mine.end ? counts[start + i * WARP] : 0;
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) sum += value(here[i]);
    }
    return sum;
}

// The limit of a tile's bins, and what is spread over them of the pixels beyond it.
struct Clip {
    u64 limit;  // 0: none
    u64 per_bin, rest, step;  // every bin gets `per_bin`, and `rest` of them, `step` apart, get one more

    // How many pixels a bin has then.
    __device__ __forceinline__ u64 operator()(u64 count, i64 bin) const {
        if (limit == 0) return count;
        // 32 bits: to divide takes long.
        const u32 at = static_cast<u32>(bin), every = static_cast<u32>(step);
        return min(count, limit) + per_bin + (rest && at % every == 0 && at / every < rest);
    }
    // How many pixels the bins before one have then, of which `counted` were counted there, `beyond` above the limit.
    __device__ __forceinline__ u64 before(i64 bin, u64 counted, u64 beyond) const {
        const u64 some = (static_cast<u64>(bin) + step - 1) / step;  // that may get one more
        return counted - beyond + per_bin * static_cast<u64>(bin) + min(some, rest);
    }
};

__device__ __forceinline__ u64 clip_count(double clip_limit, u64 area, i64 bins) {
    if (!(clip_limit > 0)) return 0;
    const double pixels = __ll2double_rn(static_cast<i64>(area));
    const double limit = divide(multiply(clip_limit, pixels), __ll2double_rn(bins));
    return limit >= pixels ? 0 : static_cast<u64>(max(__double2ll_rz(limit), 1ll));
}

// The clipping of a tile of `area` counted pixels. `beyond` becomes the number of those above the limit in the bins of the
// warps before this one.
__device__ __forceinline__ Clip clip_of(const u64* counts, const WarpBins& mine, u64 area, const Levels& levels,
                                        u64& beyond) {
    Clip clip{clip_count(levels.clip_limit, area, levels.bins), 0, 0, 1};
    beyond = 0;
    if (clip.limit) {
        const auto above = [&](u64 count) { return count - min(count, clip.limit); };
        const u64 excess = block_sum(sum_of_bins(counts, mine, above), beyond);
        const u64 bins = static_cast<u64>(levels.bins);
        clip.per_bin = excess / bins;
        clip.rest = excess % bins;
        if (clip.rest) clip.step = max(bins / clip.rest, static_cast<u64>(1));
    }
    return clip;
}

// Write the table of a tile, one block for each; leave zeros in the counts. `empty` tells of tiles without pixels.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
tile_table(u64* all_counts, i64 histograms, const __grid_constant__ Levels levels, char* tables, u8* empty) {
    for (i64 index = blockIdx.x; index < histograms; index += gridDim.x) {
        u64* const counts = all_counts + index * levels.bins;
        // Every warp takes a stretch of the bins: it adds it up, learns what lies before, and goes through it again.
        const WarpBins mine(levels.bins);
        u64 counted, beyond;
        const u64 area = block_sum(sum_of_bins(counts, mine, [](u64 count) { return count; }), counted);
        const Clip clip = clip_of(counts, mine, area, levels, beyond);
        u64 upto = clip.before(mine.begin, counted, beyond);
        const float scale = divide(__ll2float_rn(levels.span), __ll2float_rn(static_cast<i64>(area)));
        for (i64 start = mine.begin + lane_id(); start - lane_id() < mine.end; start += WARP * AHEAD) {
            u64 scanned[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; ++i) {
                const i64 bin = start + i * WARP;
                scanned[i] = bin < mine.end ? clip(counts[bin], bin) : 0;
            }
#pragma unroll
            for (int i = 0; i < AHEAD; ++i) scanned[i] = warp_scan(scanned[i]);
#pragma unroll
            for (int i = 0; i < AHEAD; ++i) {
                const i64 bin = start + i * WARP;
                if (bin < mine.end) {
                    const i64 pixels = static_cast<i64>(upto + scanned[i]);
                    const i64 entry = __float2ll_rn(multiply(__ll2float_rn(pixels), scale));
                    if (area)
                        store_level(tables + index * levels.bins * levels.width, levels.width, bin,
                                    min(entry, levels.span) + levels.lowest);
                    counts[bin] = 0;
                }
                upto += __shfl_sync(0xffffffffu, scanned[i], WARP - 1);
            }
        }
        if (threadIdx.x == 0) empty[index] = area == 0;
        __syncthreads();  // before the scratch serves the next one
    }
}

// A tile with counted pixels, and the square of its distance in tiles.
struct Neighbour {
    i64 tile, distance;  // tile is -1 where there is none

    // Take another one if it is nearer; of two equally near ones, that of the lower number.
    __device__ __forceinline__ void prefer(i64 other, i64 its_distance) {
        const bool nearer = other >= 0 && (tile < 0 || its_distance < distance ||
                                           (its_distance == distance && other < tile));
        tile = nearer ? other : tile;
        distance = nearer ? its_distance : distance;
    }
};

// For every tile, the place in its row of the nearest tile with counted pixels: the former of two, -1 where there is
// none. A thread takes a row.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
nearest_in_row(const u8* empty, i64 rows, i64 wide, int* nearest) {
    const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
    for (i64 row = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; row < rows; row += step) {
        const u8* const is_empty = empty + row * wide;
        int* const found = nearest + row * wide;
        int before = -1, after = -1;
        for (int x = 0; x < wide; ++x) {
            if (!is_empty[x]) before = x;
            found[x] = before;
        }
        for (int x = static_cast<int>(wide) - 1; x >= 0; --x) {
            if (!is_empty[x]) after = x;
            if (after >= 0 && (found[x] < 0 || after - x < x - found[x])) found[x] = after;
        }
    }
}

// The nearest tile with counted pixels, from the nearest ones of every row of a plane's tiles. All threads of a block
// look for it.
__device__ __forceinline__ i64 nearest_filled(const int* in_row, const Tiles& tiles, i64 tile) {
    const i64 wide = tiles.count[2], high = tiles.count[1], column = tile % wide;
    Neighbour nearest{-1, 0};
    for (i64 row = threadIdx.x; row < tiles.count[0] * high; row += blockDim.x) {
        const i64 found = in_row[row * wide + column];
        const i64 z = row / high - tile / wide / high, y = row % high - tile / wide % high, x = found - column;
        if (found >= 0) nearest.prefer(row * wide + found, z * z + y * y + x * x);
    }
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        const i64 other = __shfl_xor_sync(0xffffffffu, nearest.tile, step);
        nearest.prefer(other, __shfl_xor_sync(0xffffffffu, nearest.distance, step));
    }
    __syncthreads();  // nobody reads the scratch's former content any more
    if (lane_id() == 0) {
        scratch()->firsts[warp_id()] = nearest.tile;
        scratch()->lasts[warp_id()] = nearest.distance;
    }
    __syncthreads();
    nearest = Neighbour{-1, 0};
    for (int w = 0; w < warps(); ++w) nearest.prefer(scratch()->firsts[w], scratch()->lasts[w]);
    return nearest.tile;
}

// Give tiles without a counted pixel the table of the nearest one with some, or a ramp where there is none. One block
// a tile; tables that are read here are not written here.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
fill_empty(const u8* empty, const int* in_row, i64 planes, const __grid_constant__ Tiles tiles,
           const __grid_constant__ Levels levels, char* tables) {
    const i64 all = tiles.all();
    for (i64 index = blockIdx.x; index < planes * all; index += gridDim.x) {
        if (!empty[index]) continue;
        const i64 plane = index / all;
        const i64 nearest = nearest_filled(in_row + plane * all, tiles, index - plane * all);
        char* const table = tables + index * levels.bins * levels.width;
        const char* const from = tables + (plane * all + nearest) * levels.bins * levels.width;
        const double slope = divide(__ll2double_rn(levels.span), __ll2double_rn(levels.bins - 1));
        for (i64 bin = threadIdx.x; bin < levels.bins; bin += blockDim.x) {
            i64 level = __double2ll_rn(multiply(__ll2double_rn(bin), slope)) + levels.lowest;
            if (nearest >= 0)
                level = levels.width == 1 ? reinterpret_cast<const u8*>(from)[bin]
                                          : reinterpret_cast<const u16*>(from)[bin];
            store_level(table, levels.width, bin, level);
        }
    }
}

// The two tiles between whose centres a pixel lies along an axis, and their weights.
struct Between {
    int before, after;
    float weight_before, weight_after;

    // The distance from the centre of the first tile, in tiles; and the tile there or before, -1 before the first one.
    static __device__ __forceinline__ float place(i64 position, float reciprocal) {
        return subtract(multiply(__ll2float_rn(position), reciprocal), 0.5f);
    }
    static __device__ __forceinline__ int below(i64 position, float reciprocal) {
        return __float2int_rd(place(position, reciprocal));
    }
    __device__ __forceinline__ Between(const Tiles& tiles, int axis, i64 position, float reciprocal) {
        const float at = place(tiles.origin[axis] + position, reciprocal);
        const int below = __float2int_rd(at), last = static_cast<int>(tiles.count[axis]) - 1;
        weight_after = subtract(at, __int2float_rn(below));  // before it is limited
        weight_before = subtract(1.0f, weight_after);
        before = min(max(below, 0), last);
        after = min(below + 1, last);
    }
    // Of the size of a tile: OpenCV multiplies by it, which is not the same as to divide.
    static __device__ __forceinline__ float reciprocal(const Tiles& tiles, int axis) {
        return divide(1.0f, __ll2float_rn(tiles.size[axis]));
    }
};

__device__ __forceinline__ float weighted(float a, float weight_a, float b, float weight_b) {
    return add(multiply(a, weight_a), multiply(b, weight_b));
}

// Blend every pixel. Grid: x parts of a plane, y planes (in steps of gridDim.y). `edges_planes` is the number of planes
// from the edges of one image to those of the next: 0 where those of one image serve all.
template <class Kind, class Level>
__device__ __forceinline__ void apply_tiles(const Layout& at, const Tiles& tiles, const Levels& levels,
                                            const char* image, const typename Kind::Edge* edges,
                                            i64 edges_planes, const Tables& tables, char* out) {
    for (i64 index = blockIdx.y; index < at.images * at.planes; index += gridDim.y) {
        const Plane plane(at, index);
        const i64 edges_at = plane.image * edges_planes + plane.plane;
        const Kind kind(levels, edges + edges_at * (levels.bins + 1), at.image, at.out);
        const Level* const table = tables.of<Level>(plane);
        const char* const pixels = image + plane.offset(at.image);
        char* const targets = out + plane.offset(at.out);
        const float by[3] = {Between::reciprocal(tiles, 0), Between::reciprocal(tiles, 1),
                             Between::reciprocal(tiles, 2)};
        const int bins = static_cast<int>(levels.bins);
        for_each_stretch<false>(at, at.columns, WARP * SINGLES, [&](const Stretch& s) {
            const RowOffsets row(at, s);
            const Between z(tiles, 0, s.layer, by[0]), y(tiles, 1, s.row, by[1]);
            const auto row_of = [&](int iz, int iy) {
                const i64 z = iz - tiles.first[0], y = iy - tiles.first[1];
                return table + (z * tiles.held[1] + y) * tiles.held[2] * levels.bins;
            };
            const Level* const upper[2] = {row_of(z.before, y.before), row_of(z.after, y.before)};
            const Level* const lower[2] = {row_of(z.before, y.after), row_of(z.after, y.after)};
            for (i64 i = s.begin + lane_id(); i < min(s.begin + WARP * SINGLES, at.columns); i += WARP) {
                const char* const from = pixels + row.image + i * at.image.column;
                const Between x(tiles, 2, i, by[2]);
                u32 bin;
                const bool maps = kind.bin(levels, from, bin);
                const i64 before = (x.before - tiles.first[2]) * bins + bin;
                const i64 after = (x.after - tiles.first[2]) * bins + bin;
                const auto along = [&](const Level* row) {
                    return weighted(row[before], x.weight_before, row[after], x.weight_after);
                };
                float level = weighted(along(upper[0]), y.weight_before, along(lower[0]), y.weight_after);
                if (tiles.shape[0] > 1) {  // without depth both layers are the same, with weights of a half
                    const float next = weighted(along(upper[1]), y.weight_before, along(lower[1]), y.weight_after);
                    level = weighted(level, z.weight_before, next, z.weight_after);
                }
                kind.put(levels, from, targets + row.out + i * at.out.column, maps, __float2int_rn(level));
            }
        });
    }
}

#define TILES(NAME, KIND, EDGE, LEVEL)                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)                                  \
    tile_histogram_##NAME(Layout at, const __grid_constant__ Tiles tiles,                                   \
                          const __grid_constant__ Levels levels, const char* image, const u8* mask,         \
                          const EDGE* edges, i64 copies, u64* counts) {                                     \
        tile_histogram<KIND>(at, tiles, levels, image, mask, edges, copies, counts);                        \
    }                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)                                  \
    apply_tiles_##NAME(Layout at, const __grid_constant__ Tiles tiles,                                      \
                       const __grid_constant__ Levels levels, const char* image, const EDGE* edges,         \
                       i64 edges_planes, Tables tables, char* out) {                                        \
        apply_tiles<KIND, LEVEL>(at, tiles, levels, image, edges, edges_planes, tables, out);               \
    }

TILES(u8, Integers<u8>, u8, u8)
TILES(u16, Integers<u16>, u16, u16)
TILES(luma_u8, Luma<u8>, u8, u8)
TILES(luma_u16, Luma<u16>, u16, u16)
TILES(f16, Floats<Half>, Half, u16)
TILES(f32, Floats<float>, float, u16)
TILES(f64, Floats<double>, double, u16)

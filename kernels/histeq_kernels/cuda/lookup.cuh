// Tables where lookups are fast, and the pixels of contiguous rows mapped through them. In place is allowed: every
// thread stores only where it has loaded.

// A number as a level; signed integers by their bits.
template <class Level>
__device__ __forceinline__ Level to_level(double number) { return static_cast<Level>(__double2ll_rz(number)); }
template <>
__device__ __forceinline__ double to_level<double>(double number) { return number; }

// nodata passes through unchanged, and nothing else comes out as it.
template <class Level>
struct Apart {
    u32 bin;
    Level nodata, beside;

    __device__ __forceinline__ explicit Apart(const Tables& all)
        : bin(static_cast<u32>(all.nodata)), nodata(to_level<Level>(all.nodata_level)),
          beside(to_level<Level>(all.beside_nodata)) {}
    // The level of a bin, from that in its table.
    __device__ __forceinline__ Level operator()(u32 at, Level level) const {
        return at == bin ? nodata : level == nodata ? beside : level;
    }
};

// 256 levels of 8 bits in shared memory, 32 times: lane l reads only words of bank l, so that a lookup by any 32
// pixels is one access. Four levels a word keep it at 8 KB.
struct BankedTable {
    u8* bytes;

    __device__ __forceinline__ void load(const u8* table, const Tables& all) const {
        const Apart<u8> apart(all);
        for (i64 i = threadIdx.x; i < TABLE_U8; i += blockDim.x) {
            const u32 bin = bin_of(static_cast<u32>(i / (4 * WARP) * 4 + i % 4), all.flip);
            bytes[i] = apart(bin, table[bin]);
        }
    }
    __device__ __forceinline__ u8 operator()(u8 value) const {
        return bytes[value / 4 * (4 * WARP) + lane_id() * 4 + value % 4];
    }
};

// 256 levels of 64 bits in shared memory.
struct SharedTable {
    double* levels;

    __device__ __forceinline__ void load(const double* table, const Tables& all) const {
        const Apart<double> apart(all);
        for (u32 value = threadIdx.x; value < 256; value += blockDim.x) {
            const u32 bin = bin_of(value, all.flip);
            levels[value] = apart(bin, __ldg(table + bin));
        }
    }
    __device__ __forceinline__ double operator()(u8 value) const { return levels[value]; }
};

// 65,536 levels, through the L1 cache: an image uses few of them at a time.
template <class Level>
struct CachedTable {
    const Level* levels;
    u32 flip;
    Apart<Level> apart;

    __device__ __forceinline__ explicit CachedTable(const Tables& all) : levels(nullptr), flip(all.flip), apart(all) {}
    __device__ __forceinline__ void load(const Level* table, const Tables&) { levels = table; }
    __device__ __forceinline__ Level operator()(u16 value) const {
        const u32 bin = bin_of(value, flip);
        return apart(bin, __ldg(levels + bin));
    }
};

// Store the levels of one whole vector of pixels.
template <class T, class Table>
__device__ __forceinline__ void store_levels(const Vector<T>& loaded, const Table& table, T* target) {
    Vector<T> levels;
#pragma unroll
    for (int e = 0; e < IN_VECTOR<T>; ++e) levels.element[e] = table(loaded.element[e]);
    if (reinterpret_cast<u64>(target) % VECTOR == 0) {
        __stcs(reinterpret_cast<uint4*>(target), levels.whole);
    } else {
#pragma unroll
        for (int e = 0; e < IN_VECTOR<T>; ++e) target[e] = levels.element[e];
    }
}

// Map this block's share of one plane whose rows are contiguous in the image and in the result. fetch(ordinal, k,
// address) loads the vectors of whole stretches.
template <class T, bool BACKWARDS, class Table, class Fetch>
__device__ __forceinline__ void map_contiguous(const Layout& at, const char* pixels, char* targets, const Table& levels,
                                               Fetch fetch) {
    const i64 bytes = at.columns * static_cast<i64>(sizeof(T));
    for_each_stretch<BACKWARDS>(at, AlignedRow::most(bytes), WARP * VECTORS, [&](const Stretch& s) {
        const AlignedRow row(pixels + s.layer * at.image.layer + s.row * at.image.row, bytes);
        char* const start = targets + s.layer * at.out.layer + s.row * at.out.row;
        if (row.contains_stretch(s.begin)) {
            const i64 first = row.offset(s.begin + lane_id());
            Vector<T> loaded[VECTORS];
#pragma unroll
            for (int k = 0; k < VECTORS; ++k)
                loaded[k].whole =
                    fetch(s.ordinal, k, reinterpret_cast<const uint4*>(row.start + first) + k * WARP);
#pragma unroll
            for (int k = 0; k < VECTORS; ++k)
                store_levels<T>(loaded[k], levels, reinterpret_cast<T*>(start + first + k * WARP * VECTOR));
        } else {
#pragma unroll 1
            for (int k = 0; k < VECTORS; ++k) {
                const i64 from = row.offset(s.begin + k * WARP + lane_id());
#pragma unroll 1
                for (i64 b = max(from, 0ll); b < min(from + VECTOR, bytes); b += sizeof(T))
                    *reinterpret_cast<T*>(start + b) = levels(*reinterpret_cast<const T*>(row.start + b));
            }
        }
    });
}

__device__ __forceinline__ uint4 fetch_from_memory(i64, int, const uint4* address) { return *address; }

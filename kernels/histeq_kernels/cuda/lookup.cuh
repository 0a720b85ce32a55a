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

// 256 levels of 8 bits in shared memory, a word each for every lane. Four levels a word would take 8 KB in place of 32,
// and three instructions more a pixel.
struct LaneTable {
    LaneWords words;

    __device__ __forceinline__ void load(const u8* table, const Tables& all) const {
        const Apart<u8> apart(all);
        uint4* const rows = behind_scratch<uint4>();
        for (u32 i = threadIdx.x; i < COUNTERS_U8 / VECTOR; i += blockDim.x) {
            const u32 bin = bin_of(i / (WARP * 4 / VECTOR), all.flip);
            const u32 level = apart(bin, table[bin]);
            rows[i] = uint4{level, level, level, level};
        }
    }
    __device__ __forceinline__ u8 operator()(u8 value) const { return static_cast<u8>(words.of(value)); }
    // Map the four pixels of a word.
    __device__ __forceinline__ u32 map_word(u32 four) const {
        const u32 low = __byte_perm(words.of_byte<0>(four), words.of_byte<1>(four), 0x0040);
        const u32 high = __byte_perm(words.of_byte<2>(four), words.of_byte<3>(four), 0x0040);
        return __byte_perm(low, high, 0x5410);
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

// 65,536 levels, through the L1 cache: an image uses few of them at a time. FRESH: others wrote them in this launch.
template <class Level, bool FRESH = false>
struct CachedTable {
    const Level* levels;
    u32 flip;
    Apart<Level> apart;

    __device__ __forceinline__ explicit CachedTable(const Tables& all) : levels(nullptr), flip(all.flip), apart(all) {}
    __device__ __forceinline__ void load(const Level* table, const Tables&) { levels = table; }
    __device__ __forceinline__ Level operator()(u16 value) const {
        const u32 bin = bin_of(value, flip);
        return apart(bin, FRESH ? levels[bin] : __ldg(levels + bin));
    }
};

// 65,536 levels of 16 bits in shared memory, two a word. Pixels whose low bits are zeros, such as 12 bits at the top of
// 16, would meet in few banks: words are moved within 32 that lie side by side.
struct WideTable {
    static constexpr u32 AHEAD = 8;  // words of a thread: 65,536 / 2 are a multiple of those of a block
    u16* levels;

    __device__ __forceinline__ void load(const u16* table, const Tables& all) const {
        const Apart<u16> apart(all);
        // Several words at a time: their loads do not wait for one another.
#pragma unroll 1
        for (u32 first = threadIdx.x; first < 65536 / 2; first += AHEAD * blockDim.x) {
            u32 words[AHEAD];
#pragma unroll
            for (u32 i = 0; i < AHEAD; ++i) words[i] = __ldcg(reinterpret_cast<const u32*>(table) + first + i * blockDim.x);
#pragma unroll
            for (u32 i = 0; i < AHEAD; ++i) {
                const u32 word = first + i * blockDim.x, two = words[i];
                const u32 low = apart(2 * word, static_cast<u16>(two)), high = apart(2 * word + 1, static_cast<u16>(two >> 16));
                const u32 place = word ^ all.flip / 2;
                reinterpret_cast<u32*>(levels)[place ^ (place >> 6 & 31u)] = low | high << 16;
            }
        }
    }
    __device__ __forceinline__ u16 operator()(u16 value) const { return levels[value ^ (value >> 6 & 0x3eu)]; }
    // Two pixels of a word at once.
    __device__ __forceinline__ u32 pair(u32 values) const {
        const u32 places = values ^ (values >> 6 & 0x003e003eu);
        return levels[places & 0xffffu] | static_cast<u32>(levels[places >> 16]) << 16;
    }
};

// Map one whole vector of pixels.
template <class T, class Table>
__device__ __forceinline__ Vector<T> map_vector(const Vector<T>& pixels, const Table& table) {
    Vector<T> levels;
#pragma unroll
    for (int e = 0; e < IN_VECTOR<T>; ++e) levels.element[e] = table(pixels.element[e]);
    return levels;
}
__device__ __forceinline__ Vector<u8> map_vector(const Vector<u8>& pixels, const LaneTable& table) {
    Vector<u8> levels;
    levels.whole = uint4{table.map_word(pixels.whole.x), table.map_word(pixels.whole.y),
                         table.map_word(pixels.whole.z), table.map_word(pixels.whole.w)};
    return levels;
}

__device__ __forceinline__ Vector<u16> map_vector(const Vector<u16>& pixels, const WideTable& table) {
    Vector<u16> levels;
    levels.whole = uint4{table.pair(pixels.whole.x), table.pair(pixels.whole.y), table.pair(pixels.whole.z),
                         table.pair(pixels.whole.w)};
    return levels;
}

template <class T>
__device__ __forceinline__ void store_levels(const Vector<T>& levels, T* target) {
    if (reinterpret_cast<u64>(target) % VECTOR == 0) {
        __stcs(reinterpret_cast<uint4*>(target), levels.whole);
    } else {
#pragma unroll
        for (int e = 0; e < IN_VECTOR<T>; ++e) target[e] = levels.element[e];
    }
}

// Map a share of one plane whose rows are contiguous in the image and in the result. Pixels are loaded and stored with
// the streaming hint: neither is needed again, and the L2 cache keeps what is still to be mapped.
template <class T, bool BACKWARDS, class Table>
__device__ __forceinline__ void map_contiguous(const Layout& at, const Share& share, const char* pixels, char* targets,
                                               const Table& levels) {
    const i64 bytes = at.columns * static_cast<i64>(sizeof(T));
    for_each_stretch<BACKWARDS>(at, share, AlignedRow::most(bytes), WARP * VECTORS, [&](const Stretch& s) {
        const AlignedRow row(pixels + s.layer * at.image.layer + s.row * at.image.row, bytes);
        char* const start = targets + s.layer * at.out.layer + s.row * at.out.row;
        if (row.contains_stretch(s.begin)) {
            const i64 first = row.offset(s.begin + lane_id());
            Vector<T> loaded[VECTORS];
#pragma unroll
            for (int k = 0; k < VECTORS; ++k)
                loaded[k].whole = __ldcs(reinterpret_cast<const uint4*>(row.start + first) + k * WARP);
#pragma unroll
            for (int k = 0; k < VECTORS; ++k)
                store_levels(map_vector(loaded[k], levels), reinterpret_cast<T*>(start + first + k * WARP * VECTOR));
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

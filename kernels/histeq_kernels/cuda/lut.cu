// Map integer images through tables. The images are walked backwards: what the histogram read last is still in
// the L2 cache, and results are stored with the streaming hint so that they do not push it out.
//
// Grid: x parts of a plane, y planes (walked in steps of gridDim.y). In place is allowed: every thread stores
// only where it has loaded.

// The tables of a launch, `image` and `plane` entries apart; 0: one for all.
struct Tables {
    const void* entries;
    i64 image, plane;
    i64 nodata;  // the bin that passes through unchanged; -1: none
    u32 flip;    // 0x8000 for int16

    template <class Level>
    __device__ __forceinline__ const Level* of(const Plane& at) const {
        return static_cast<const Level*>(entries) + at.image * image + at.plane * plane;
    }
};

static_assert(sizeof(Tables) == 40, "the host's TABLES has another size");

// 256 levels of 8 bits in shared memory, 32 times: lane l reads only words of bank l, so that a lookup by any 32
// pixels is one access. Four levels a word keep it at 8 KB.
struct BankedTable {
    u8* bytes;

    __device__ __forceinline__ void load(const u8* table, const Tables& all) const {
        for (i64 i = threadIdx.x; i < 256 * WARP; i += blockDim.x) {
            const i64 level = i / (4 * WARP) * 4 + i % 4;
            bytes[i] = level == all.nodata ? static_cast<u8>(level) : __ldg(table + level);
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
        for (i64 i = threadIdx.x; i < 256; i += blockDim.x)
            levels[i] = i == all.nodata ? __ll2double_rn(i) : __ldg(table + i);
    }
    __device__ __forceinline__ double operator()(u8 value) const { return levels[value]; }
};

// 65,536 levels, through the L1 cache: an image uses few of them at a time.
template <class Level>
struct CachedTable {
    const Level* levels;
    u32 nodata, flip;

    __device__ __forceinline__ void load(const Level* table, const Tables& all) {
        levels = table;
        nodata = static_cast<u32>(all.nodata);
        flip = all.flip;
    }
    __device__ __forceinline__ Level operator()(u16 value) const {
        const u32 bin = bin_of(value, flip);
        return bin == nodata ? unchanged(value, Level()) : __ldg(levels + bin);
    }
    __device__ __forceinline__ u16 unchanged(u16 value, u16) const { return value; }
    __device__ __forceinline__ double unchanged(u16 value, double) const {
        return __ll2double_rn(flip ? static_cast<short>(value) : value);
    }
};

template <class Level, class Table, class MapPlane>
__device__ __forceinline__ void map_planes(const Layout& at, const Tables& tables, Table table,
                                           MapPlane map_plane) {
    for (i64 index = blockIdx.y; index < at.images * at.planes; index += gridDim.y) {
        const Plane plane(at, index);
        table.load(tables.of<Level>(plane), tables);
        __syncthreads();
        map_plane(plane, table);
        __syncthreads();  // before the next plane's table is loaded
    }
}

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

// Lines that are contiguous in the image and in the result.
template <class T, class Table>
__device__ __forceinline__ void apply_lut_lines(const Layout& at, const char* image, const Tables& tables,
                                                Table table, char* out) {
    map_planes<T>(at, tables, table, [&](const Plane& plane, const Table& levels) {
        const char* const pixels = image + plane.offset(at.image);
        char* const targets = out + plane.offset(at.out);
        const i64 bytes = at.columns * static_cast<i64>(sizeof(T));
        each_stretch<true>(at, AlignedLine::most(bytes), WARP * VECTORS, [&](const Stretch& s) {
            const AlignedLine line(pixels + s.layer * at.image.layer + s.row * at.image.row, bytes);
            char* const start = targets + s.layer * at.out.layer + s.row * at.out.row;
            if (line.whole_stretch(s.begin)) {
                const i64 first = line.offset(s.begin + lane_id());
                Vector<T> loaded[VECTORS];
#pragma unroll
                for (int k = 0; k < VECTORS; ++k)
                    loaded[k].whole = *(reinterpret_cast<const uint4*>(line.start + first) + k * WARP);
#pragma unroll
                for (int k = 0; k < VECTORS; ++k)
                    store_levels<T>(loaded[k], levels,
                                    reinterpret_cast<T*>(start + first + k * WARP * VECTOR));
            } else {
#pragma unroll 1
                for (int k = 0; k < VECTORS; ++k) {
                    const i64 from = line.offset(s.begin + k * WARP + lane_id());
#pragma unroll 1
                    for (i64 b = max(from, 0ll); b < min(from + VECTOR, bytes); b += sizeof(T))
                        *reinterpret_cast<T*>(start + b) = levels(*reinterpret_cast<const T*>(line.start + b));
                }
            }
        });
    });
}

// Lines of any strides, or of a result of another dtype.
template <class T, class Level, class Table>
__device__ __forceinline__ void apply_lut_strided(const Layout& at, const char* image, const Tables& tables,
                                                  Table table, char* out) {
    map_planes<Level>(at, tables, table, [&](const Plane& plane, const Table& levels) {
        const char* const pixels = image + plane.offset(at.image);
        char* const targets = out + plane.offset(at.out);
        each_pixel<true>(at, nullptr, [&](i64 from, i64 to, bool) {
            *reinterpret_cast<Level*>(targets + to) = levels(*reinterpret_cast<const T*>(pixels + from));
        });
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
apply_lut_u8(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_lines<u8>(at, image, tables, BankedTable{behind_scratch<u8>()}, out);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
apply_lut_u16(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_lines<u16>(at, image, tables, CachedTable<u16>{}, out);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
apply_lut_u8_strided(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_strided<u8, u8>(at, image, tables, BankedTable{behind_scratch<u8>()}, out);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
apply_lut_u16_strided(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_strided<u16, u16>(at, image, tables, CachedTable<u16>{}, out);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
apply_lut_u8_f64_strided(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_strided<u8, double>(at, image, tables, SharedTable{behind_scratch<double>()}, out);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
apply_lut_u16_f64_strided(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_strided<u16, double>(at, image, tables, CachedTable<double>{}, out);
}

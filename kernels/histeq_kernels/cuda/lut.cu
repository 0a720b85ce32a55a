// Map integer images through tables. The last pixels come first: what the histogram read last is still in
// the L2 cache, and results are stored with the streaming hint so that they do not push it out.
//
// Grid: x parts of a plane, y planes (in steps of gridDim.y).

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

template <class T, class Table>
__device__ __forceinline__ void apply_lut_contiguous(const Layout& at, const char* image, const Tables& tables,
                                                     Table table, char* out) {
    map_planes<T>(at, tables, table, [&](const Plane& plane, const Table& levels) {
        map_contiguous<T, true>(at, Share::of_grid(), image + plane.offset(at.image), out + plane.offset(at.out),
                                levels);
    });
}

// Rows of any strides, or a result of another dtype.
template <class T, class Level, class Table>
__device__ __forceinline__ void apply_lut_strided(const Layout& at, const char* image, const Tables& tables,
                                                  Table table, char* out) {
    map_planes<Level>(at, tables, table, [&](const Plane& plane, const Table& levels) {
        const char* const pixels = image + plane.offset(at.image);
        char* const targets = out + plane.offset(at.out);
        for_each_pixel<true>(at, nullptr, [&](i64 from, i64 to, bool) {
            *reinterpret_cast<Level*>(targets + to) = levels(*reinterpret_cast<const T*>(pixels + from));
        });
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_lut_u8(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_contiguous<u8>(at, image, tables, LaneTable(), out);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_lut_u16(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_contiguous<u16>(at, image, tables, CachedTable<u16>(tables), out);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_lut_u16_shared(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_contiguous<u16>(at, image, tables, WideTable{behind_scratch<u16>()}, out);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_lut_u8_strided(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_strided<u8, u8>(at, image, tables, LaneTable(), out);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_lut_u16_strided(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_strided<u16, u16>(at, image, tables, CachedTable<u16>(tables), out);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_lut_u16_u8_strided(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_strided<u16, u8>(at, image, tables, CachedTable<u8>(tables), out);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_lut_u8_f64_strided(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_strided<u8, double>(at, image, tables, SharedTable{behind_scratch<double>()}, out);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_lut_u16_f64_strided(Layout at, const char* image, Tables tables, char* out) {
    apply_lut_strided<u16, double>(at, image, tables, CachedTable<double>(tables), out);
}

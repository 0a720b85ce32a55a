// What all kernels share: the pixels of a launch, how the blocks of a grid divide them, and which block is the last.
//
// No CUDA header is included: the sources compile in a tenth of the time, with NVRTC alone. Every byte of
// shared memory is dynamic: a Scratch at its start, counters or tables behind it.
//
// Names in capitals that are defined nowhere here, such as THREADS, are macros: interface.py has them, with their
// reasons, and gives them to the compiler.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// Bytes from one image, plane (channel), layer, row and column to the next.
struct Strides {
    i64 image, plane, layer, row, column;
};

// The pixels of a launch. For luma, planes is 1 and the plane stride leads from red to green to blue.
struct Layout {
    i64 images, planes, layers, rows, columns;
    Strides image, mask, out;
};

// What the threads of a block tell each other.
struct Scratch {
    u64 sums[WARP];
    i64 firsts[WARP];
    i64 lasts[WARP];
    u32 is_last, ticket;
};
static_assert(sizeof(Scratch) <= SCRATCH, "the scratch does not fit");

extern __shared__ uint4 shared_memory[];

__device__ __forceinline__ Scratch* scratch() { return reinterpret_cast<Scratch*>(shared_memory); }
template <class T>
__device__ __forceinline__ T* behind_scratch() {
    return reinterpret_cast<T*>(reinterpret_cast<char*>(shared_memory) + SCRATCH);
}

__device__ __forceinline__ int lane_id() { return threadIdx.x % WARP; }
__device__ __forceinline__ int warp_id() { return threadIdx.x / WARP; }
__device__ __forceinline__ int warps() { return blockDim.x / WARP; }

// The address of shared memory that loops count from: one number to the compiler, which else adds its parts up anew for
// every pixel.
__device__ __forceinline__ u32 shared_address(const void* place) {
    u32 address = static_cast<u32>(__cvta_generic_to_shared(place));
    asm("" : "+r"(address));
    return address;
}
__device__ __forceinline__ u32& shared_word(u32 address) {
    return *static_cast<u32*>(__cvta_shared_to_generic(address));
}

// Shared memory in which every lane of a warp has a bank of its own: a word for each lane and each value of 8 bits, that
// of lane l at byte value << 7 | l << 2. An access by any 32 values takes one turn, and an address two instructions: a
// byte is taken out of a word, lowest first, then shifted and added to the address of the lane.
struct LaneWords {
    u32 lane;

    __device__ __forceinline__ LaneWords() : lane(shared_address(behind_scratch<u32>() + lane_id())) {}
    __device__ __forceinline__ u32& of(u32 value) const { return shared_word(lane + (value << LANE_BITS)); }
    template <int BYTE>
    __device__ __forceinline__ u32& of_byte(u32 word) const { return of(__byte_perm(word, 0, 0x4440 + BYTE)); }
};
static_assert(1 << LANE_BITS == WARP * sizeof(u32), "a row of words, one a lane");

// Tell whether this block is the last of `parts` to come here; all that the others wrote before is visible
// to the last one then. atomicInc sets the ticket back to 0, so that the next launch finds it clean.
__device__ __forceinline__ bool is_last_block(u32* ticket, u32 parts) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) scratch()->is_last = atomicInc(ticket, parts - 1) == parts - 1;
    __syncthreads();
    const bool last = scratch()->is_last;
    if (last) __threadfence();
    return last;
}

// A stretch of one row that a warp handles at once.
struct Stretch {
    i64 layer, row;
    i64 begin;  // which vector, or which pixel, of the row comes first
};

// The number of a stretch among those of a plane, in three digits.
struct StretchNumber {
    i64 layer, row, stretch;

    __device__ __forceinline__ void divide(i64 rows, i64 in_row) {
        row = stretch / in_row;
        stretch -= row * in_row;
        layer = row / rows;
        row -= layer * rows;
    }
    __device__ __forceinline__ void add(const StretchNumber& other, i64 rows, i64 in_row) {
        stretch += other.stretch;
        row += other.row;
        layer += other.layer;
        if (stretch >= in_row) stretch -= in_row, ++row;
        if (row >= rows) row -= rows, ++layer;
    }
    __device__ __forceinline__ void subtract(const StretchNumber& other, i64 rows, i64 in_row) {
        stretch -= other.stretch;
        row -= other.row;
        layer -= other.layer;
        if (stretch < 0) stretch += in_row, --row;
        if (row < 0) row += rows, --layer;
    }
};

// Which stretches of a plane a warp takes: every `step`th from `begin` up to `end`, or up to the last one there is.
struct Share {
    i64 begin, step, end;

    // All stretches, which go to the warps of all blocks of the plane in turn.
    static __device__ __forceinline__ Share of_grid() {
        return {static_cast<i64>(blockIdx.x) * warps() + warp_id(), static_cast<i64>(gridDim.x) * warps(),
                0x7fffffffffffffffll};
    }
    // A part of them, of `length` stretches, which go to the warps of this block.
    static __device__ __forceinline__ Share of_part(i64 part, i64 length) {
        return {part * length + warp_id(), warps(), (part + 1) * length};
    }
};

__device__ __forceinline__ i64 stretches_in_row(i64 row_length, i64 length) {
    return (row_length + length - 1) / length;
}

// Call visit(stretch) for a share of all rows, each of which is cut into stretches of `length`. Backwards: the last
// stretch is the first.
template <bool BACKWARDS, class Visit>
__device__ __forceinline__ void for_each_stretch(const Layout& at, const Share& share, i64 row_length, i64 length,
                                                 Visit visit) {
    const i64 in_row = stretches_in_row(row_length, length);
    const i64 all = at.layers * at.rows * in_row, end = min(share.end, all);
    if (share.begin >= end) return;  // there may be no pixel at all
    // Divisions take long: there are some before the loop, and none for a plane that is one row.
    StretchNumber now{0, 0, BACKWARDS ? all - 1 - share.begin : share.begin}, step{0, 0, share.step};
    if (all > 0 && at.layers * at.rows != 1) {
        now.divide(at.rows, in_row);
        step.divide(at.rows, in_row);
    }
    for (i64 i = share.begin; i < end; i += share.step) {
        visit(Stretch{now.layer, now.row, now.stretch * length});
        if (BACKWARDS) now.subtract(step, at.rows, in_row);
        else now.add(step, at.rows, in_row);
    }
}

template <bool BACKWARDS, class Visit>
__device__ __forceinline__ void for_each_stretch(const Layout& at, i64 row_length, i64 length, Visit visit) {
    for_each_stretch<BACKWARDS>(at, Share::of_grid(), row_length, length, visit);
}

// 16 bytes as elements. The loops over elements are unrolled, so that all stay in registers.
template <class T>
union Vector {
    uint4 whole;
    T element[VECTOR / sizeof(T)];
};
template <class T>
constexpr int IN_VECTOR = VECTOR / static_cast<int>(sizeof(T));

// A row seen as aligned vectors: the first and the last may belong to it in part only.
struct AlignedRow {
    const char* start;  // of the row
    i64 bytes;          // of the row
    i64 head;           // bytes of the first vector that lie before the row

    __device__ __forceinline__ AlignedRow(const char* row, i64 size)
        : start(row), bytes(size), head(static_cast<i64>(reinterpret_cast<u64>(row) % VECTOR)) {}
    // Where vector i begins, counted from the row's first byte: negative for a first vector in part.
    __device__ __forceinline__ i64 offset(i64 i) const { return i * VECTOR - head; }
    // Tell whether all vectors of a warp's stretch, from vector `begin` on, lie within the row.
    __device__ __forceinline__ bool contains_stretch(i64 begin) const {
        return offset(begin) >= 0 && offset(begin + WARP * VECTORS) <= bytes;
    }
    // The most vectors that any row of `bytes` touches, wherever it begins.
    static __device__ __forceinline__ i64 most(i64 bytes) {
        return (bytes + 2 * (VECTOR - 1)) / VECTOR;
    }
};

// Call whole(vector) for the vectors of a share of one plane whose rows are contiguous, as far as whole stretches lie
// within their row, and single(value) for the other values.
template <class T, class Whole, class Single>
__device__ __forceinline__ void for_each_vector(const Layout& at, const Share& share, const char* plane, Whole whole,
                                                Single single) {
    const i64 bytes = at.columns * static_cast<i64>(sizeof(T));
    for_each_stretch<false>(at, share, AlignedRow::most(bytes), WARP * VECTORS, [&](const Stretch& s) {
        const AlignedRow row(plane + s.layer * at.image.layer + s.row * at.image.row, bytes);
        if (row.contains_stretch(s.begin)) {
            const uint4* const first =
                reinterpret_cast<const uint4*>(row.start + row.offset(s.begin + lane_id()));
            Vector<T> loaded[VECTORS];
#pragma unroll
            for (int k = 0; k < VECTORS; ++k) loaded[k].whole = __ldg(first + k * WARP);
#pragma unroll
            for (int k = 0; k < VECTORS; ++k) whole(loaded[k]);
        } else {
#pragma unroll 1
            for (int k = 0; k < VECTORS; ++k) {
                const i64 from = row.offset(s.begin + k * WARP + lane_id());
#pragma unroll 1
                for (i64 b = max(from, 0ll); b < min(from + VECTOR, bytes); b += sizeof(T))
                    single(*reinterpret_cast<const T*>(row.start + b));
            }
        }
    });
}

// Where the row of a stretch begins.
struct RowOffsets {
    i64 image, out, mask;
    __device__ __forceinline__ RowOffsets(const Layout& at, const Stretch& s)
        : image(s.layer * at.image.layer + s.row * at.image.row),
          out(s.layer * at.out.layer + s.row * at.out.row),
          mask(s.layer * at.mask.layer + s.row * at.mask.row) {}
};

// Pixels of CHANNELS elements T without gaps, in groups that fill CHANNELS vectors: call whole(row, x) for the group
// of IN_VECTOR<T> pixels from x on that begins at an aligned address, single(row, x) for each other pixel of this
// block's share. `first` is where the plane begins.
template <bool BACKWARDS, class T, int CHANNELS, class Whole, class Single>
__device__ __forceinline__ void for_each_group(const Layout& at, const char* first, Whole whole, Single single) {
    constexpr int N = IN_VECTOR<T>;
    // The first group ends where the first aligned address is, at 0 at the least: it may be empty.
    const i64 groups = (at.columns + 2 * N - 1) / N;
    for_each_stretch<BACKWARDS>(at, groups, WARP, [&](const Stretch& s) {
        const RowOffsets row(at, s);
        const int past = static_cast<int>(reinterpret_cast<u64>(first + row.image) / sizeof(T) % N);
        // The pixels before the first aligned address; 11 times 3 is 1, modulo 8 and 16.
        const int head = (N - past) % N * (CHANNELS == 3 ? 11 : 1) % N;
        const i64 x = head - N + (s.begin + lane_id()) * N;
        if (x >= 0 && x + N <= at.columns) {
            whole(row, x);
        } else {
#pragma unroll 1
            for (i64 i = max(x, 0ll); i < min(x + N, at.columns); ++i) single(row, i);
        }
    });
}

// N bytes of a mask, in one load where they are aligned.
template <int N>
struct MaskBytes {
    union {
        struct alignas(N) { u8 of[N]; } all;
        u8 byte[N];
    };
    __device__ __forceinline__ explicit MaskBytes(const u8* from) {
        if (reinterpret_cast<u64>(from) % N == 0) {
            all = *reinterpret_cast<const decltype(all)*>(from);
        } else {
#pragma unroll
            for (int i = 0; i < N; ++i) byte[i] = from[i];
        }
    }
};

// Call visit(offset in the image, offset in the output, counted) for this block's share of the pixels of one
// plane, of any strides. `counted` is what the mask says; without a mask, all are.
template <bool BACKWARDS, class Visit>
__device__ __forceinline__ void for_each_pixel(const Layout& at, const u8* mask, Visit visit) {
    for_each_stretch<BACKWARDS>(at, at.columns, WARP * SINGLES, [&](const Stretch& s) {
        const RowOffsets row(at, s);
        i64 x = s.begin + lane_id();
        i64 from = row.image + x * at.image.column, to = row.out + x * at.out.column;
        i64 masked = row.mask + x * at.mask.column;
#pragma unroll 2
        for (int k = 0; k < SINGLES; ++k) {
            if (x < at.columns) visit(from, to, mask == nullptr || mask[masked] != 0);
            x += WARP;
            from += WARP * at.image.column;
            to += WARP * at.out.column;
            masked += WARP * at.mask.column;
        }
    });
}

// The images and planes of a launch go over blockIdx.y.
struct Plane {
    i64 image, plane;
    __device__ __forceinline__ Plane(i64 index, i64 planes_in_image)
        : image(index / planes_in_image), plane(index - index / planes_in_image * planes_in_image) {}
    __device__ __forceinline__ Plane(const Layout& at, i64 index) : Plane(index, at.planes) {}
    __device__ __forceinline__ i64 offset(const Strides& by) const {
        return image * by.image + plane * by.plane;
    }
    // The mask of its image; null, as `mask` is then: all pixels count.
    __device__ __forceinline__ const u8* mask_of(const u8* mask, const Layout& at) const {
        return mask == nullptr ? nullptr : mask + image * at.mask.image;
    }
};

// The tables of a launch, `image` and `plane` entries apart; 0: one for all.
struct Tables {
    const void* entries;
    i64 image, plane;
    i64 nodata;            // the bin that passes through unchanged; -1: none
    double nodata_level;   // its level,
    double beside_nodata;  // and what other bins of that level get instead: the same where there is no nodata
    u32 flip;              // what `bin_of` needs

    template <class Level>
    __device__ __forceinline__ const Level* of(const Plane& at) const {
        return static_cast<const Level*>(entries) + at.image * image + at.plane * plane;
    }
};

// Signed pixels go by the kernels of unsigned ones: the same bits, and `flip`, the bit of the sign, turns them into the
// place among the values, the smallest first. It is 0 for unsigned pixels.
template <class T>
__device__ __forceinline__ u32 bin_of(T value, u32 flip) { return value ^ flip; }

__device__ __forceinline__ bool is_finite(double value) { return value - value == 0; }

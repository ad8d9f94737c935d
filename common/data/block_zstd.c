// SPDX-License-Identifier: Apache-2.0
// zstd for block payloads. A context costs some hundred KiB to set up, far more than a small block
// to compress, so each thread that ever needs one keeps it until it ends.
#include <pthread.h>
#include <zstd.h>

#include "common/data/block_private.h"

#define LEVEL 1

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t compressor_key;
static pthread_key_t decompressor_key;

static void free_compressor(void *context) { ZSTD_freeCCtx(context); }

static void free_decompressor(void *context) { ZSTD_freeDCtx(context); }

static void make_keys(void)
{
    CHECK(pthread_key_create(&compressor_key, free_compressor) == 0);
    CHECK(pthread_key_create(&decompressor_key, free_decompressor) == 0);
}

static ZSTD_CCtx *compressor(void)
{
    pthread_once(&once, make_keys);
    ZSTD_CCtx *context = pthread_getspecific(compressor_key);
    if (context == NULL) {
        context = ZSTD_createCCtx();
        CHECK(context != NULL && pthread_setspecific(compressor_key, context) == 0);
    }
    return context;
}

static ZSTD_DCtx *decompressor(void)
{
    pthread_once(&once, make_keys);
    ZSTD_DCtx *context = pthread_getspecific(decompressor_key);
    if (context == NULL) {
        context = ZSTD_createDCtx();
        CHECK(context != NULL && pthread_setspecific(decompressor_key, context) == 0);
    }
    return context;
}

size_t block_compress(uint8_t *to, size_t room, struct bytes raw)
{
    size_t size = ZSTD_compressCCtx(compressor(), to, room, raw.data, raw.size, LEVEL);
    return ZSTD_isError(size) ? 0 : size;
}

int block_decompress(uint8_t *to, size_t raw_size, struct bytes frame)
{
    // The decoder would go on through several frames and skippable ones; a block holds one.
    if (ZSTD_findFrameCompressedSize(frame.data, frame.size) != frame.size) {
        return ERR_PROTOCOL;
    }
    size_t size = ZSTD_decompressDCtx(decompressor(), to, raw_size, frame.data, frame.size);
    return !ZSTD_isError(size) && size == raw_size ? OK : ERR_PROTOCOL;
}

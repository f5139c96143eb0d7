# Linux on AArch64, from a machine of another kind, with the compiler that Debian has as gcc-aarch64-linux-gnu:
#
#     cmake -S . -B build-aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DCONVCORE_TESTS=ON
#     cmake --build build-aarch64 && qemu-aarch64 build-aarch64/steps_check
#
# Programs are static: they run wherever they are taken, and qemu-user needs no system's libraries beside them.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)

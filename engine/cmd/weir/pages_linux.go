package main

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// leavePages unmaps the code and the constants of the program and of the libraries it loaded, and returns how many bytes of them were
// resident. They stay in the page cache; what is used again comes back with a minor fault, 16 pages at a time.
//
// Starting runs code that serving never does: reading the configuration, migrations, building ONNX Runtime's session. On a
// 64-bit x86 that is some 20 MiB of 40, which would count as the engine's memory as long as it lives.
func leavePages() (int64, error) {
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return unmapClean(file, func(start, length uintptr) error {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, start, length, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
		return nil
	})
}

// unmapClean calls unmap for each mapping in a listing as of /proc/PID/smaps that is of a file, not writable, and has no page that
// differs from the file: relocated data is not writable either, but would be lost.
func unmapClean(smaps io.Reader, unmap func(start, length uintptr) error) (int64, error) {
	var start, end, resident, differs uint64
	clean := false
	total := int64(0)
	settle := func() error {
		if !clean || resident == 0 || differs > 0 {
			return nil
		}
		total += int64(resident) << 10
		return unmap(uintptr(start), uintptr(end-start))
	}
	in := bufio.NewScanner(smaps)
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch {
		case len(f) >= 5 && strings.Contains(f[0], "-") && len(f[1]) == 4: // address range, permissions, offset, device, inode, file
			if err := settle(); err != nil {
				return total, err
			}
			from, to, _ := strings.Cut(f[0], "-")
			var err1, err2 error
			start, err1 = strconv.ParseUint(from, 16, 64)
			end, err2 = strconv.ParseUint(to, 16, 64)
			// Until the line that says so, a mapping counts as one that differs.
			resident, differs = 0, 1
			clean = err1 == nil && err2 == nil && len(f) >= 6 && f[4] != "0" && strings.HasPrefix(f[1], "r-") && f[1][3] == 'p'
		case len(f) == 3 && f[0] == "Rss:":
			resident, _ = strconv.ParseUint(f[1], 10, 64)
		case len(f) == 3 && f[0] == "Anonymous:":
			if kib, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				differs = kib
			}
		}
	}
	if err := in.Err(); err != nil {
		return total, err
	}
	return total, settle()
}

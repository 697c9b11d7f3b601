package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const smaps = `00400000-01a00000 r-xp 00001000 fd:00 131 /usr/bin/weir
Rss:               11492 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01a00000-01b00000 r--p 01600000 fd:00 131 /usr/bin/weir
Rss:                 404 kB
Anonymous:           404 kB
01b00000-01c00000 rw-p 01700000 fd:00 131 /usr/bin/weir
Rss:                1060 kB
Anonymous:             0 kB
c000000000-c004000000 r--p 00000000 00:00 0
Rss:               30000 kB
Anonymous:             0 kB
7f0000000000-7f0000100000 r--s 00000000 fd:00 9 /var/lib/weir/shared
Rss:                  64 kB
Anonymous:             0 kB
7f0000200000-7f0000300000 r--p 00000000 fd:00 12 /usr/lib/libonnxruntime.so.1
Rss:                 512 kB
Anonymous:             0 kB
7f0000400000-7f0000500000 r-xp 00000000 fd:00 12 /usr/lib/libonnxruntime.so.1
Rss:                   0 kB
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0 [vdso]
Rss:                   4 kB
Anonymous:             0 kB
7ffd00004000-7ffd00006000 r-xp 00000000 fd:00 14 /usr/lib/unknown
Rss:                   4 kB
`

// Of a program's memory only what the file has too may be let go: not heap, not data, not what was relocated, not what is shared.
func TestOnlyCleanPagesOfFilesAreLeft(t *testing.T) {
	var got []string
	n, err := unmapClean(strings.NewReader(smaps), func(start, length uintptr) error {
		got = append(got, fmt.Sprintf("%x+%x", start, length))
		return nil
	})
	if want := "400000+1600000 7f0000200000+100000"; err != nil || strings.Join(got, " ") != want || n != (11492+512)<<10 {
		t.Errorf("%d bytes in %q (%v), want those of %s", n, got, err, want)
	}
}

func TestAProgramThatLeftItsPagesRunsOn(t *testing.T) {
	before := fileBacked(t)
	n, err := leavePages()
	if err != nil {
		t.Fatal(err)
	}
	after := fileBacked(t)
	if n <= 0 || after >= before {
		t.Errorf("%d KiB were left, the resident pages of files went from %d to %d KiB", n>>10, before, after)
	}
	TestOnlyCleanPagesOfFilesAreLeft(t) // any code will do
}

func fileBacked(t *testing.T) (kib int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kib
}

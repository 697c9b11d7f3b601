package nginx

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A snippet that is not installed is an include that NGINX does not find, in a configuration that follows the docs to the letter.
func TestEverySnippetIsInstalled(t *testing.T) {
	t.Parallel()
	snippets, err := filepath.Glob("*.conf")
	if err != nil || len(snippets) == 0 {
		t.Fatal(snippets, err)
	}
	root := t.TempDir()
	cmd := exec.Command("bash", "../deploy/install.sh", "--nginx-only")
	cmd.Env = append(os.Environ(), "DESTDIR="+root)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("install.sh: %v\n%s", err, out)
	}
	_, byHand, _ := strings.Cut(read(t, "README.md"), "By hand")
	byHand, _, _ = strings.Cut(byHand, "Debian's module")
	for _, name := range snippets {
		if name == "example.conf" { // to read
			continue
		}
		if _, err := os.Stat(filepath.Join(root, "etc/nginx/weir", name)); err != nil {
			t.Errorf("deploy/install.sh does not install it: %v", err)
		}
		if !strings.Contains(byHand, "nginx/"+name+" ") {
			t.Errorf("README.md does not install %s by hand", name)
		}
	}
}

package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// defaultSecret is where lua/resty/weir/cookie.lua looks when it is not told.
const defaultSecret = "/etc/weir/affinity.secret"

// The rules of cookie.lua for the file.
const (
	minSecret  = 16
	maxSecrets = 8
)

// secret checks the file with the secrets of sticky cookies, once. NGINX reads it at start and reload only, not with nginx -t. A file that
// whoever runs the check may not read is passed over: it may well be for root alone.
func (c *checker) secret() {
	if c.secretSeen || c.secretAt == nil {
		return
	}
	c.secretSeen = true
	path, told := c.env("WEIR_AFFINITY_SECRET_FILE")
	if !told {
		if path, told = c.secretFile, c.secretFile != ""; !told {
			path = defaultSecret
		}
	}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && told:
		c.errorf(c.secretAt.File, c.secretAt.Line, c.secretAt.Name, "the secrets of sticky cookies are to be in %s, which is not there: NGINX will not start", path)
	case err == nil:
		if problem := secretProblem(string(data)); problem != "" {
			c.errorf(path, 0, "", "%s: NGINX will not start, or keeps its old configuration", problem)
		}
	}
}

// secretProblem says what is wrong with the text of such a file; "" = nothing. It never quotes it.
func secretProblem(text string) string {
	n, at := 0, 0
	for line := range strings.Lines(text) {
		at++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if n++; len(line) < minSecret {
			return fmt.Sprintf("line %d: a secret has at least %d characters", at, minSecret)
		}
	}
	switch {
	case n == 0:
		return "there is no secret in it: write one a line, as `openssl rand -base64 32` makes them"
	case n > maxSecrets:
		return fmt.Sprintf("there are %d secrets in it: at most %d are believed at a time", n, maxSecrets)
	}
	return ""
}

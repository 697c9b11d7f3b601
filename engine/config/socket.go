package config

import (
	"fmt"
	"os/user"
	"strconv"
)

// GID finds the socket's group by name or number; -1 means leave it as it is.
func (s Socket) GID() (int, error) {
	if s.Group == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(s.Group)
	if err == nil {
		return strconv.Atoi(g.Gid)
	}
	if n, numErr := strconv.Atoi(s.Group); numErr == nil && n >= 0 {
		return n, nil
	}
	return 0, fmt.Errorf("there is no group %q on this host", s.Group)
}

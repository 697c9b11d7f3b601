package main

import "github.com/weirlb/weir/engine/config/check"

type checkCmd struct {
	Config string `default:"/etc/weir/weir.yaml" help:"The engine's configuration file." placeholder:"FILE"`
	Nginx  string `help:"NGINX's main configuration file, to see that the two fit." placeholder:"FILE"`
	JSON   bool   `name:"json" help:"Print JSON."`
}

func (c *checkCmd) Run(to streams) error {
	r := check.Check(c.Config, c.Nginx, nil)
	write := r.Print
	if c.JSON {
		write = r.JSON
	}
	if err := write(to.out); err != nil {
		return err
	}
	if !r.OK() {
		return errQuiet
	}
	return nil
}

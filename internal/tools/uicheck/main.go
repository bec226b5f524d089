// Command uicheck opens Swagger UI of a running server in Chromium, authorizes with a key as a person would, and
// presses «Execute» on every operation that the page shows, without typing anything else.
//
//	larder dev &
//	go run -C internal/tools ./uicheck http://127.0.0.1:8080 lk_live_… [SCREENSHOT.png]
//
// It prints the status that each operation was answered with, and fails if one was not answered, if the page
// logged an error (a broken content security policy is one), or if the browser asked another host for
// anything. It changes data: give it a server that you can throw away. It is not part of the tests, because
// they need nothing but Go.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: uicheck URL KEY [SCREENSHOT.png]")
		os.Exit(2)
	}
	if err := run(strings.TrimSuffix(os.Args[1], "/"), os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "uicheck:", err)
		os.Exit(1)
	}
}

func run(url, key string, screenshot []string) error {
	b, err := start()
	if err != nil {
		return err
	}
	defer b.stop()
	if err := b.open(url + "/docs"); err != nil {
		return err
	}
	if _, err := b.eval(helpers); err != nil {
		return err
	}
	if _, err := b.eval(`wait(() => document.querySelectorAll(".opblock").length > 0)`); err != nil {
		return fmt.Errorf("the page shows no operation: %w\n%s", err, strings.Join(b.complaints, "\n"))
	}
	name, _ := json.Marshal(key)
	if _, err := b.eval(`authorize(` + string(name) + `)`); err != nil {
		return fmt.Errorf("authorize: %w", err)
	}
	if len(screenshot) > 0 {
		if err := b.screenshot(screenshot[0]); err != nil {
			return err
		}
	}
	list, err := b.eval(`[...document.querySelectorAll(".opblock")].map(o => o.id).join("\n")`)
	if err != nil {
		return err
	}
	unanswered := 0
	for _, id := range strings.Split(list, "\n") {
		quoted, _ := json.Marshal(id)
		status, err := b.eval(`execute(` + string(quoted) + `)`)
		if err != nil {
			status = "no answer: " + err.Error()
			unanswered++
		}
		fmt.Printf("%-50s %s\n", strings.TrimPrefix(id, "operations-"), status)
	}
	for _, asked := range b.asked {
		if !strings.HasPrefix(asked, url+"/") && !strings.HasPrefix(asked, "data:") {
			b.complaints = append(b.complaints, "asked another host: "+asked)
		}
	}
	if unanswered > 0 || len(b.complaints) > 0 {
		return fmt.Errorf("%d operations without an answer\n%s", unanswered, strings.Join(b.complaints, "\n"))
	}
	return nil
}

// helpers are what the page is worked with: a press of a button is a click on it, as with a mouse.
const helpers = `
window.wait = async (ready, ms = 5000) => {
  for (const end = Date.now() + ms; Date.now() < end; await new Promise(r => setTimeout(r, 20))) {
    const v = ready(); if (v) return v;
  }
  throw new Error("waited in vain for " + ready);
};
window.authorize = async key => {
  (await wait(() => document.querySelector("button.authorize"))).click();
  const field = await wait(() => document.querySelector(".modal-ux input[type=text], .modal-ux input[type=password]"));
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(field, key);
  field.dispatchEvent(new Event("input", {bubbles: true}));
  document.querySelector(".modal-ux button.authorize").click();
  await wait(() => [...document.querySelectorAll(".modal-ux button")].find(b => b.textContent === "Logout"));
  document.querySelector(".modal-ux .btn-done").click();
  return "ok";
};
window.execute = async id => {
  const block = document.getElementById(id);
  block.querySelector(".opblock-summary-control").click();
  await wait(() => block.querySelector(".opblock-body"));
  const tryIt = block.querySelector(".try-out__btn:not(.cancel):not(.reset)");
  if (tryIt) tryIt.click();
  await wait(() => block.querySelector("button.execute"));
  await new Promise(r => setTimeout(r, 200)); // a form takes a moment to fill itself in; people are never faster
  block.querySelector("button.execute").click();
  const invalid = () => block.querySelector("input.invalid, textarea.invalid, select.invalid, .parameters .errors, .validation-errors li");
  const status = await wait(() => block.querySelector(".live-responses-table tbody .response-col_status") || invalid());
  if (!status.classList.contains("response-col_status")) throw new Error("the form is refused: " + (status.title || status.textContent));
  const answer = status.textContent.trim();
  block.querySelector(".opblock-summary-control").click();
  return answer;
};
"ok"`

// A browser is Chromium without a window, spoken to in the DevTools protocol over two pipes.
type browser struct {
	cmd        *exec.Cmd
	profile    string
	to         *os.File
	messages   chan message
	session    string
	next       int
	complaints []string // what the page logged as errors
	asked      []string // what the browser asked for
}

type message struct {
	ID        int                       `json:"id,omitempty"`
	Method    string                    `json:"method,omitempty"`
	Params    json.RawMessage           `json:"params,omitempty"`
	SessionID string                    `json:"sessionId,omitempty"`
	Result    json.RawMessage           `json:"result,omitempty"`
	Error     *struct{ Message string } `json:"error,omitempty"`
}

func start() (*browser, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, fmt.Errorf("no Chromium: apt-get install chromium: %w", err)
	}
	profile, err := os.MkdirTemp("", "uicheck")
	if err != nil {
		return nil, err
	}
	readEnd, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	from, writeEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	b := &browser{profile: profile, to: to, messages: make(chan message, 1024)}
	b.cmd = exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--window-size=1400,1600", "--user-data-dir="+profile, "--remote-debugging-pipe", "about:blank")
	b.cmd.ExtraFiles = []*os.File{readEnd, writeEnd}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	_ = readEnd.Close()
	_ = writeEnd.Close()
	go func() {
		defer close(b.messages)
		for r := bufio.NewReader(from); ; {
			text, err := r.ReadBytes(0)
			if err != nil {
				return
			}
			var m message
			if json.Unmarshal(text[:len(text)-1], &m) == nil {
				b.messages <- m
			}
		}
	}()
	return b, nil
}

func (b *browser) stop() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
	_ = os.RemoveAll(b.profile)
}

// call calls a method of the protocol and waits for its result; events that come before are noted.
func (b *browser) call(method string, params any) (json.RawMessage, error) {
	b.next++
	text, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	m, err := json.Marshal(message{ID: b.next, Method: method, Params: text, SessionID: b.session})
	if err != nil {
		return nil, err
	}
	if _, err := b.to.Write(append(m, 0)); err != nil {
		return nil, err
	}
	late := time.After(30 * time.Second)
	for {
		select {
		case m, ok := <-b.messages:
			switch {
			case !ok:
				return nil, errors.New("the browser is gone")
			case m.ID == b.next && m.Error != nil:
				return nil, fmt.Errorf("%s: %s", method, m.Error.Message)
			case m.ID == b.next:
				return m.Result, nil
			}
			b.note(m)
		case <-late:
			return nil, fmt.Errorf("%s: no answer from the browser", method)
		}
	}
}

// note keeps what an event tells.
func (b *browser) note(m message) {
	switch m.Method {
	case "Log.entryAdded":
		var p struct {
			Entry struct{ Level, Source, Text, URL string }
		}
		_ = json.Unmarshal(m.Params, &p)
		if p.Entry.Level == "error" && p.Entry.Source != "network" { // a status of 400 and more is logged as network
			b.complaints = append(b.complaints, p.Entry.Text+" "+p.Entry.URL)
		}
	case "Runtime.exceptionThrown":
		b.complaints = append(b.complaints, string(m.Params))
	case "Network.requestWillBeSent":
		var p struct{ Request struct{ URL string } }
		_ = json.Unmarshal(m.Params, &p)
		if !slices.Contains(b.asked, p.Request.URL) {
			b.asked = append(b.asked, p.Request.URL)
		}
	}
}

// open opens a page in a new tab.
func (b *browser) open(url string) error {
	var made struct{ TargetID string }
	var attached struct{ SessionID string }
	r, err := b.call("Target.createTarget", map[string]any{"url": "about:blank"})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(r, &made); err != nil {
		return err
	}
	r, err = b.call("Target.attachToTarget", map[string]any{"targetId": made.TargetID, "flatten": true})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(r, &attached); err != nil {
		return err
	}
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		if _, err := b.call(domain+".enable", map[string]any{}); err != nil {
			return err
		}
	}
	if _, err := b.call("Page.navigate", map[string]any{"url": url}); err != nil {
		return err
	}
	for range 500 {
		state, err := b.eval(`location.href + " " + document.readyState`)
		if err == nil && strings.HasPrefix(state, url) && strings.HasSuffix(state, "complete") {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s does not load", url)
}

// eval evaluates an expression in the page, waits for it if it is a promise, and returns its value as a string.
func (b *browser) eval(expression string) (string, error) {
	r, err := b.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true})
	if err != nil {
		return "", err
	}
	var answer struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Exception struct{ Description string }
		}
	}
	if err := json.Unmarshal(r, &answer); err != nil {
		return "", err
	}
	if e := answer.ExceptionDetails; e != nil {
		first, _, _ := strings.Cut(e.Exception.Description, "\n")
		return "", errors.New(first)
	}
	return fmt.Sprint(answer.Result.Value), nil
}

func (b *browser) screenshot(file string) error {
	r, err := b.call("Page.captureScreenshot", map[string]any{"format": "png"})
	if err != nil {
		return err
	}
	var shot struct{ Data string }
	if err := json.Unmarshal(r, &shot); err != nil {
		return err
	}
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		return err
	}
	return os.WriteFile(file, png, 0o644)
}

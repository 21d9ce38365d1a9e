// The key of a server that demands a token: kept where only pages of this very port can read it, unlike a cookie.

const name = document.querySelector('meta[name="ringbinder-access"]')?.content;

/** The key, empty if this server demands none or this browser has none. */
export const key = () => (name && localStorage.getItem(name)) || "";

/** The headers with which this page's requests are answered. */
export const headers = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

export const NO_KEY =
  "This server demands its token again: open the address that it printed in the terminal when it started.";

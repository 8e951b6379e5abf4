// Says that the service does not answer, for as long as it does not: the pages themselves need no script.
const stale = document.getElementById("stale");
const told = (away) => () => { stale.hidden = !away; };
document.addEventListener("htmx:error", told(true));
document.addEventListener("htmx:after:request", (event) => { stale.hidden = event.detail.ctx.response.status < 500; });

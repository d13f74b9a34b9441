// The switch "Show all code" of a chapter: it unfolds all code, and is remembered where the browser allows that.
document.addEventListener("DOMContentLoaded", () => {
  const place = document.querySelector(".clt-switch"), folds = [...document.querySelectorAll("details.clt-fold")];
  if (!place) return;
  const box = place.querySelector("input");
  const memory = (...words) => { try { return localStorage[words.length > 1 ? "setItem" : "getItem"](...words); } catch { return null; } };
  const unfold = () => folds.forEach(fold => { fold.open = box.checked; });
  box.checked = memory("clt-all-code") === "yes";
  if (box.checked) unfold();
  box.addEventListener("change", () => { unfold(); memory("clt-all-code", box.checked ? "yes" : "no"); });
  place.hidden = false;
  // For browsers that print only what is unfolded; others obey the style sheet.
  let opened = [];
  addEventListener("beforeprint", () => { opened = folds.filter(fold => !fold.open); opened.forEach(fold => { fold.open = true; }); });
  addEventListener("afterprint", () => opened.forEach(fold => { fold.open = false; }));
});

"""Seeded captions that try a tokenizer: ordinary ones, and ones in which no two pieces are sure to go
together.
"""

ORDINARY = """a an the dog cat man woman two people red blue small large on of above left photo and with background bike is
riding standing next to street kitchen table plate pizza train bus sign clock tower grass snow water surfboard wave holding
in front umbrella giraffe zebra elephant baseball player bat ball tennis court laptop desk bear teddy motorcycle parked""".split()

# By kind; one of a kind is drawn as often as one of another.
PIECES = {
    "brackets": "( ) [ ] { } < > (( )) [1] {x} (a) ) ( -LRB- -rrb- -LSB- (-: ()".split(),
    "quotes": "\" ' ` `` '' \"\" ''' “ ” ‘ ’ „ ‚ « » ‹ › \"big\" 'go' `x' ``y'' 'tis ’twas \"' ’’ ‘‘ ′ ″ &quot; &apos;".split(),
    "dashes": "- -- --- ---- – — ― ‐ ‑ − well-known mother-in-law -word word- a-b-c a--b a—b a–b 3-4 3–4 x- -5 – -- &ndash; &MD;".split(),
    "stops": ". .. ... .... ..... …  . . . a... ...b … a…b ?! !!! ?? ! ? !? ¡ ¿ ; : , ,, ;; :: ·".split(),
    "emoticons": ":) :-) ;-) :( :-( :D :P =) 8) :'( ^_^ <3 </3 >:( :o xD :/ :| B-) o_O (^^) (: ;) :] :-* -_- :-D =( ;D".split(),
    "tags": "<b> </b> <br/> <br /> <a href=\"x.html\"> <!--c--> <p class='x'> <3> <-> -> <- => <= >= << >> <b <> </> <unk> <b>x</b> "
    "&amp; &lt; &gt; &nbsp; &eacute; &#39; &x; &".split(" "),
    "fractions": "1/2 3/4 ½ ¼ ⅓ 1½ 2-1/2 2 1/2 10/12/2020 1/2/3 5/8ths ¾ x/2 1/x 1⁄2 24/7 w/ w/o and/or a/b/c 3 1/4".split(" "),
    "apostrophes": "don't can't it's dogs' x'y'z o'clock rock'n'roll y'all ma'am 'em 'n' he'd've I'm they're Côte_d'Ivoire d'Ivoire "
    "O'Neil l'eau '90s 1990's ain't isn’t it’s cannot gonna gotta wanna gimme lemme whaddya 'd 's n't 'll can’t DON'T IT'S "
    "wouldn't've s' x' 'x o' ol' dunno more'n d'ye".split(),
    "addresses": "http://x.org www.site.com https://a.b/c?d=e&f=g site.com me@mail.com foo.bar@x.co.uk x@y @user #tag #1 ftp://f.g/ "
    "www.a.b/c. a.com, e.g.com http://x @ # user_name a.b.c amazon.co.uk x.jpg file.txt /usr/bin C:\\x me@x. <me@x.org>".split(),
    "money": "$5 $5.00 5$ $ € £ ¥ ¢ €10 £3 ¥100 US$5 $1,000.50 A$ 10¢ $5-10 ₹5 ₤ ¤ C$10 $.50 5€ R$ HK$20 $-5 -$5 &pound;".split(),
    "abbreviations": "Mr. Mrs. Dr. St. U.S. U.S.A. e.g. i.e. etc. p.m. a.m. vs. No. no. Inc. Jr. Ph.D. Jan. Dec. Sat. tv. T.V. A. a. "
    "Co. Corp. Ave. Blvd. Mt. Ft. approx. fig. Fig. pp. p. Gen. Sgt. U.K. D.C. L.A. N.Y. J.R.R. cf. al. art. Art. Calif. Mass. "
    "Conn. Lt. Ltd. Prof. Rev. St in. ft. oz. lb. lbs. sq. Mar. Sun. Mon. Tue. Wed. Thu. Fri. Sept. Sep. Bros. Univ. dept. Ms. "
    "Messrs. Sr. Sen. Rep. Gov. Pres. Capt. Col. Adm. Esq. Hon. PhD. M.D. R.I.P. a.k.a. w.r.t. nos. Nos. Pvt. Maj. Cpl. Va. Pa. "
    "Tex. Ariz. Wash. Pty. Cos. Cie. Plc. Oct. Nov. Aug. Jun. Jul. Apr. Feb. est. ext. tel. assn. dist. div. vol. ed. eds. seq. "
    "Ex. ex. B.C. A.D. sec. Alex. Geo. Chas. Wm. Ph. D.".split(),
    "letters": "é É ñ ß ü œ æ ø å Å ł ş café naïve Über piñata żółć привет Ελλάδα שלום مرحبا हिन्दी ไทย ß.x İ ı ﬁ ª º µ Ω".split(),
    "cjk": "日本 日本語 中文字 한국어 カタカナ ひらがな 々 ー 〆 「引用」 、 。 ！ ？ 日本.x a日b 東京2020 ・ 〜 （全角） ａｂｃ １２３ ％ ＄".split(),
    "marks": "e\u0301 n\u0303 a\u0300b \u0301 o\u0308x ♥\ufe0f \u200d a\u200db \u200b a\u200bb co\u00adop \ufeff \u00a0 a\u00a0b "
    "\u2009 \u3000 \u20e3 1\ufe0f\u20e3".split(" "),
    "symbols": "☀ ★ ♥ ✓ → ← ↑ ∞ ≤ ≥ ≠ ± × ÷ √ π ° § ¶ † ‡ • ™ ® © ¬ ¦ | || \\ / // * ** + ++ = == ~ ~~ ^ % %% & && _ __ ___ "
    "@@ ## a*b a+b a=b x^2 50% AT&T R&B b&w 5° C++ C# .NET @_@ A+ ♂ ♀ ☺ ☹ ‰ № ℃ ℉ ™x ½x ①".split(),
    "beyond": "👍 😀 👨‍👩‍👧 🇺🇸 👍🏽 𝒳 𝐀𝐁 🐶dog a👍b 😀. 𠮷 🎉🎉 1️⃣ ❤️ 🏳️‍🌈".split(),
    "numbers": "1,000 1,000,000.50 3.14 .5 5. 1.2.3 -5 +5 +5.5 10:30 10:30am 5pm 1990s '90s 1st 2nd 3rd 100mph 19.5cm 5x5 1,2,3 "
    "2020-01-02 01/02/2020 555-1234 (555) 123-4567 555-123-4567 1-800-555-1234 +1 555 123 4567 3,4 10% 1e5 0x1F 5'10 5'10\" "
    "6ft 12:00:00 1:2 ,5 1,00 1.000,5 5-year-old 20-something no.5 No.5 1.5.2020 3:0 4x4 #1 (555)123-4567 555.123.4567 ٣ १२".split(" "),
    "names": "McDonald's iPhone eBay AT&T Coca-Cola Spider-Man X-ray T-shirt t-shirt A's Mac's U.S.'s S&P Yahoo! E! Toys\"R\"Us I-95 "
    "Jeopardy! !Kung F-16 B-52 7-Eleven 7Up pH km/h mph. A-B.C co-op C-3PO Guns'N'Roses 'N_Sync e-mail anti- non- pre- Jr.'s".split(),
}
KINDS = list(PIECES)
SYMBOLS = [chr(c) for c in range(33, 127) if not chr(c).isalnum()]


def ordinary(rng):
    """Like people's captions: words, and an ordinary stop."""
    words = " ".join(rng.choice(ORDINARY) for _ in range(rng.randint(3, 14)))
    return words.capitalize() + rng.choice(["", ".", ".", " .", "!"])


def adversarial(rng, glue=0.0):
    """Pieces of any kind between ordinary words, some of them joined without a space."""
    text = []
    for _ in range(rng.randint(1, 10)):
        kind = rng.random()
        if kind < 0.55:
            piece = rng.choice(PIECES[rng.choice(KINDS)])
        elif kind < 0.6:
            piece = rng.choice(SYMBOLS) * rng.randint(1, 3)
        else:
            piece = rng.choice(ORDINARY)
        change = rng.random()
        text += [piece.upper() if change < 0.05 else piece.capitalize() if change < 0.1 else piece]
        text += [rng.choice(["", "", ","]) if rng.random() < glue else rng.choice([" ", " ", " ", " ", "  ", "\t", "\n"])]
    return "".join(text[:-1])


def glued(rng):
    """Pieces against each other."""
    return adversarial(rng, 0.3)


def soup(rng):
    """Characters in any order: the hardest, and what nobody writes."""
    letters = SYMBOLS + list("abstnd'lmvrAIUSP.015 9   ''..-,")
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, 20)))


def caption(rng):
    """Any caption; now and then an empty one."""
    kind = rng.random()
    return "" if kind < 0.02 else ordinary(rng) if kind < 0.4 else adversarial(rng)

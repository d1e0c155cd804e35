# What plm answers on case `dynamic_panel` of the simulated reference set: Rscript plm.R
# Within estimates (individual, twoways), their covariances, session effects, random effects with
# the Hausman test, and the half-panel jackknife from plm fits of every client's halves.
suppressMessages({library(plm); library(jsonlite)})
folder <- file.path("..", "simulated", "dynamic_panel")

rows_of <- function(which) {
  data <- read.csv(file.path(folder, paste0(which, "_long.csv")))
  data <- pdata.frame(data, index = c("client", "session"))
  data$ly <- lag(data$symptoms, 1, shift = "time")
  data$lx <- lag(data$alliance, 1, shift = "time")
  rows <- data.frame(client = as.integer(as.character(data$client)),
                     session = as.integer(as.character(data$session)),
                     y = as.numeric(data$symptoms), ly = as.numeric(data$ly),
                     lx = as.numeric(data$lx))
  rows <- rows[complete.cases(rows), ]
  rows[order(rows$client, rows$session), ]
}

within <- function(rows, effect) {
  plm(y ~ ly + lx, data = rows, index = c("client", "session"), model = "within", effect = effect)
}

described <- function(rows, effect) {
  model <- within(rows, effect)
  out <- list(coef = coef(model), vcov = vcov(model),
              arellano = vcovHC(model, method = "arellano", type = "HC0", cluster = "group"),
              sigma2 = deviance(model) / df.residual(model), nobs = nobs(model))
  if (effect == "twoways") {  # by lm: fixef() of plm 2.6-2 is not least squares in unbalanced panels
    lsdv <- lm(y ~ ly + lx + factor(session) + factor(client), data = rows)
    found <- coef(lsdv)[grepl("session", names(coef(lsdv)))]
    out$sessions <- setNames(found, sub("factor\\(session\\)", "", names(found)))
  }
  lapply(out, function(x) if (is.matrix(x)) unname(matrix(x, nrow(x))) else as.list(x))
}

# Rows of a client in order; the middle one of an odd number goes to the first half in one split
# and to the second in the other.
halved <- function(rows, effect) {
  n <- ave(rows$session, rows$client, FUN = length)
  place <- ave(rows$session, rows$client, FUN = seq_along)
  keep <- n >= 4
  rows <- rows[keep, ]; n <- n[keep]; place <- place[keep]
  first <- list(place <= n %/% 2, place <= (n + 1) %/% 2)
  fits <- sapply(first, function(f) {
    (coef(within(rows[f, ], effect)) + coef(within(rows[!f, ], effect))) / 2
  })
  all <- coef(within(rows, effect))
  list(corrected = as.list(2 * all - rowMeans(fits)), uncorrected = as.list(all),
       nobs = nrow(rows), clients = length(unique(rows$client)))
}

random <- function(rows) {
  model <- plm(y ~ ly + lx, data = rows, index = c("client", "session"), model = "random",
               random.method = "swar")
  test <- phtest(within(rows, "individual"), model)
  list(coef = as.list(coef(model)), vcov = unname(matrix(vcov(model), 3)),
       client_var = unname(ercomp(model)$sigma2["id"]),
       hausman = list(statistic = unname(test$statistic), df = unname(test$parameter),
                      pvalue = unname(test$p.value)))
}

# Worlds in which random effects keep a variance: no lagged outcome, `ly` is only a name. `with` is
# how far it goes with the client's level.
static <- function(with) {
  rows <- rows_of("balanced")
  set.seed(4)
  client <- as.integer(factor(rows$client))
  n <- max(client)
  level <- rnorm(n)
  rows$ly <- round(rnorm(nrow(rows)) + with * level[client], 6)
  rows$lx <- round(rnorm(nrow(rows)) + rnorm(n)[client], 6)
  rows$y <- round(0.4 * rows$ly - 0.2 * rows$lx + level[client] + rnorm(nrow(rows)), 6)
  rows
}

answers <- list(versions = list(R = R.version.string, plm = as.character(packageVersion("plm"))))
for (which in c("balanced", "unbalanced")) {
  rows <- rows_of(which)
  for (effect in c("individual", "twoways")) {
    answers[[paste(which, effect, sep = "_")]] <- c(described(rows, effect),
                                                    list(half_panel = halved(rows, effect)))
  }
}
answers$balanced_random <- random(rows_of("balanced"))
for (which in c("static", "mixed")) {
  rows <- static(if (which == "static") 0 else 0.3)
  answers[[paste0(which, "_random")]] <- random(rows)
  write.csv(rows, paste0(which, ".csv"), row.names = FALSE)
}
write_json(answers, "plm.json", digits = NA, auto_unbox = TRUE, pretty = TRUE)
